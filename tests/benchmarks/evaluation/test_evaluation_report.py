"""An evaluation as Markdown, word by word."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ninokit.benchmarks.evaluation.report import format_evaluation, format_saved
from ninokit.benchmarks.evaluation.results import Evaluation, Seconds
from ninokit.benchmarks.evaluation.savings import StepsSaved

# The savings in it are computed by hand: AdamW's mean loss is 2 after 500 steps, and 0.5 after 800.
EXPECTED = (Path(__file__).parent / "two_tasks.md").read_text(encoding="utf-8")


def tables(text):
    """The cells of each table, without its rule."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    rows = [[[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks]
    return [[block[0], *block[2:]] for block in rows]


def test_the_whole_of_two_tasks(evaluation):
    assert format_evaluation(evaluation) == EXPECTED


def test_medians_are_of_the_savings_that_are_shown(evaluation):
    first, second = evaluation.tasks
    third = replace(first, task="third", rival="muon")
    adamw, muon, line = first.arms
    worse = {budget: tuple(loss + 1.5 for loss in losses) for budget, losses in line.averaged.items()}
    fourth = replace(first, task="fourth", arms=(adamw, muon, replace(line, averaged=worse)))
    text = format_evaluation(replace(evaluation, tasks=(first, second, third, fourth)))
    against_best, against_adamw, *_ = tables(text)
    for header, *rows, medians in (against_best, against_adamw):
        for column in range(2, len(header)):
            shown = [int(m[1]) for row in rows if (m := re.match(r"[≥≤]?(-?\d+) %", row[column]))]
            middle = sorted(shown)
            expected = "–" if not shown else (middle[len(shown) // 2] + middle[(len(shown) - 1) // 2]) / 2
            found = medians[column]
            assert found == "–" if not shown else abs(int(found.removesuffix(" %")) - expected) <= 1
    assert "the rival" in {cell for row in against_best for cell in row}
    assert "adamw" not in against_adamw[0]


def test_one_task_has_no_table_of_tasks(evaluation):
    text = format_evaluation(Evaluation({}, evaluation.tasks[:1]))
    assert "median" not in text
    assert len(tables(text)) == 1


def test_nothing_tuned(make):
    arms = [make.arm("adamw", [[4, 3, 2, 1, 0.5]], tuned=False), make.arm("line", [[4, 3, 2, 1]], tuned=False)]
    text = format_evaluation(Evaluation({}, (make.task(arms),)))
    assert "Nothing was tuned: every arm trains at the task's rate, with its own defaults." in text
    assert "All settings were chosen" not in text


def test_what_the_average_alone_saves(evaluation):
    first = evaluation.tasks[0]
    adamw, *others = first.arms
    raw = tuple(tuple(loss + 0.5 for loss in row) for row in adamw.curve.losses)
    first = replace(first, arms=(replace(adamw, raw_curve=replace(adamw.curve, losses=raw)), *others))
    expected = (
        "Averaging alone: at its averaged weights `adamw` saves 20 % [20, 20] of the steps that its trained weights "
        "take to the same loss. What an arm saves comes on top of that."
    )
    assert f"\n\n{expected}\n\n" in format_evaluation(Evaluation({}, (first,)))
    assert "Averaging alone" not in format_evaluation(evaluation)


def test_seconds(evaluation):
    first = evaluation.tasks[0]
    adamw, muon, line = first.arms
    arms = (
        replace(adamw, seconds=Seconds(0.001, 0.0, 0)),
        replace(muon, seconds=Seconds(0.002, 0.0, 0)),
        replace(line, seconds=Seconds(0.001, 0.02, 5)),
    )
    (table,) = tables(format_evaluation(Evaluation({}, (replace(first, arms=arms),))))
    assert table[0][-3:] == ["ms a step", "s a nowcast", "seconds saved against adamw"]
    assert [row[-3:] for row in table[1:]] == [
        ["1.00", "–", "–"],
        ["2.00", "–", "-60 %"],  # 0.8 s against 500 steps of a millisecond
        ["1.00", "0.020", "38 %"],  # 0.5 s against 0.8
    ]


@pytest.mark.parametrize(
    ("saved", "text"),
    [
        ((0.254, 0.2, 0.3, "="), "25 % [20, 30]"),
        ((-0.254, -0.3, -0.2, "="), "-25 % [-30, -20]"),
        ((0.5, 0.42, 0.5, "≥"), "≥50 % [42, 50]"),
        ((0.496, 0.42, 0.5, "≥"), "≥49 % [42, 50]"),
        ((-39.0, -39.0, 0.033, "≤"), "≤-3900 % [-3900, 3]"),
        ((-0.001, -0.004, -0.0, "="), "0 % [0, 0]"),
        ((-0.005, -0.006, 0.004, "="), "0 % [-1, 0]"),
    ],
)
def test_a_saving(saved, text):
    assert format_saved(StepsSaved(*saved, ())) == text
