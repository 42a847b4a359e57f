"""The tables, computed by hand, and the file that they can be made from again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ninokit.benchmarks.evaluation.report import format_evaluation
from ninokit.benchmarks.evaluation.results import joined, read_evaluation, write_evaluation
from ninokit.errors import ConfigError


def table(text: str, title: str) -> list[list[str]]:
    lines = text.partition(f"## {title}")[2].partition("\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_steps_saved_against_adamw(evaluation):
    found = table(format_evaluation(evaluation), "Steps saved, against AdamW at the task's own learning rate")
    # Over the tasks: between 25 % and at least 25 % lies at least 25 %; between 20 % and at most all, at most 60 %.
    assert found == [
        ["task", "AdamW tuned", "mine_h8.test"],
        ["first", "20 % (20 %, 20 %, ≤-50 %)", "25 % (50 %, 25 %, ≤-50 %) *"],
        ["second", "– (–, –, –)", "≥25 % (≥50 %, ≥25 %, ≥0 %)"],
        ["median", "≤60 %", "≥25 %"],
        ["median, trained on", "–", "25 %"],
        ["median, not trained on", "–", "≥25 %"],
    ]


def test_seconds_saved_against_the_tuned_one(evaluation):
    found = table(format_evaluation(evaluation), "Seconds saved, against AdamW at a tuned learning rate")
    assert found[0] == ["task", "mine_h8.test"]
    assert found[1] == ["first", "≥6 % (38 %, 6 %, –) *"]


def test_what_each_method_took(evaluation):
    found = table(format_evaluation(evaluation), "first: to a test accuracy of 0.9, a nowcast every 10 steps")
    assert found == [
        ["method", "learning rate", "steps", "of seeds 0, 1, 2", "seconds", "of seeds 0, 1, 2"],
        ["AdamW", "0.01", "200", "100, 200, 400", "100.0", "50.0, 100.0, 200.0"],
        ["AdamW tuned", "0.02", "160", "80, 160, >600", "80.0", "40.0, 80.0, >300.0"],
        ["mine_h8.test", "0.01", "150", "50, 150, >600", "75.0", "25.0, 75.0, >300.0"],
    ]


def test_the_learning_rates_that_were_tried(evaluation):
    text = format_evaluation(evaluation)
    assert "|          0.01 |   120 | 0.9100 |\n| 0.02 (chosen) |    90 |      – |\n" in text
    edge = "The chosen one is at the edge of what was tried; beyond it there may be a better one."
    assert text.count(edge) == 1
    first = evaluation.tasks[0]
    inside = replace(first, trials=(*first.trials, replace(first.trials[0], lr=0.04)))
    assert edge not in format_evaluation(replace(evaluation, tasks=(inside,)))


def test_one_seed_and_one_task_have_no_brackets(evaluation):
    first = evaluation.tasks[0]
    single = replace(
        first, seeds=(0,), methods=tuple(replace(method, runs=method.runs[:1]) for method in first.methods)
    )
    found = table(format_evaluation(replace(evaluation, tasks=(single,))), "Steps saved, against AdamW at the task's")
    assert found[1] == ["first", "20 %", "50 % *"]


def test_it_says_what_was_trained_on_and_where_it_ran(evaluation):
    text = format_evaluation(evaluation)
    assert text.startswith("# mine_h8.test: steps and seconds to the target\n")
    assert text.endswith(
        "`mine_h8.test` was trained on first.\n\n"
        "python 3.x, processor a processor, threads 1 or 2, device cpu, commit abc or def.\n"
    )


def test_without_tuning_there_is_one_baseline(evaluation):
    tasks = tuple(replace(task, methods=(task.methods[0], task.methods[2]), trials=()) for task in evaluation.tasks)
    text = format_evaluation(replace(evaluation, tasks=tasks))
    assert "tuned" not in text
    assert text.count("## ") == 4


def test_round_trip(evaluation, tmp_path):
    path = tmp_path / "evaluation.json"
    write_evaluation(evaluation, path)
    assert read_evaluation(path) == evaluation


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"nowcaster": 3}'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        ConfigError, match=r"evaluation\.json: expected the evaluation\.json that `ninokit evaluate` wro"
    ):
        read_evaluation(path)


def test_measurements_are_those_of_the_nowcaster(evaluation):
    first, second = evaluation.measurements()
    assert (first.task, first.distribution, second.task, second.distribution) == ("first", "in", "second", "out")
    assert (first.commit, first.hardware, first.period) == ("abc", "a processor, threads 1", 10)
    assert (second.commit, second.hardware) == ("def", "a processor, threads 2")
    assert [seed.nowcasting.steps for seed in first.seeds] == [50, 150, 600]
    assert list(first.seeds[2].others) == ["AdamW tuned, learning rate 0.02"]
    assert first.seeds[2].others["AdamW tuned, learning rate 0.02"].reached is False


def test_environments_that_differ_are_all_told():
    one, two = {"commit": "a", "threads": 1}, {"commit": "b", "threads": 1}
    assert joined([one, two, one]) == {"commit": "a or b", "threads": 1}
