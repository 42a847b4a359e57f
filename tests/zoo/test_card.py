"""Cards: what is written is read again, and what is wrong is named."""

from __future__ import annotations

import pytest
import torch
import yaml
from hand_made_cards import make_card, make_measurement, make_saving, make_task_result
from hypothesis import given
from hypothesis import strategies as st

from ninokit.benchmarks.arms import Recipe, nowcasting_arm
from ninokit.benchmarks.summary import Saving
from ninokit.errors import ZooError
from ninokit.nowcasters import LineFit
from ninokit.zoo import Run, SavedSteps, TaskSaving, TrainingRun, TrainingTask, WeightsFile
from ninokit.zoo.card import add_savings, parse_card, read_card, write_card
from ninokit.zoo.http import URL_PATTERN

WEIGHTS = WeightsFile(file="weights.safetensors", sha256="a" * 64, size=12)
LETTERS = st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" \t\n")
TEXT = st.text(LETTERS, min_size=1)


def content(**changes: object) -> dict[str, object]:
    fields = make_card(weights=WEIGHTS).model_dump(mode="json")
    return {**fields, **changes}


def without(name: str) -> dict[str, object]:
    fields = content()
    del fields[name]
    return fields


def test_what_is_written_is_read_again(tmp_path):
    measurement = make_measurement((100, 1.5, True, 60, 1.25, True), (200, 3.0, False, 90, 1.75, True))
    card = make_card(
        weights=WEIGHTS,
        savings=[make_saving(commit="a" * 40)],
        measurements=[measurement],
        known_failures=["anything wide", "π: no trouble with letters"],
        references=["arXiv:2409.04434"],
        default=True,
    )
    path = tmp_path / "card.yaml"
    write_card(card, path)
    assert read_card(path) == card
    assert "positions: null" in path.read_text(encoding="utf-8")
    assert "licence" in yaml.safe_load(path.read_text(encoding="utf-8"))


@given(
    description=TEXT,
    task=TEXT,
    argument=st.one_of(
        st.integers(), st.booleans(), st.text(LETTERS), st.floats(allow_nan=False, allow_infinity=False)
    ),
    config=st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
        max_leaves=5,
    ),
)
def test_any_text_survives(tmp_path_factory, description, task, argument, config):
    card = make_card(
        description=description,
        trained_on=[TrainingTask(task=task)],
        arguments={"hidden": argument},
        training=TrainingRun(config={"recipe": config}),
        weights=WEIGHTS,
    )
    path = tmp_path_factory.mktemp("card") / "card.yaml"
    write_card(card, path)
    read = read_card(path)
    assert read == card
    assert type(read.arguments["hidden"]) is type(argument)


def test_a_text_that_yaml_alters_is_refused(tmp_path):
    with pytest.raises(ZooError) as caught:
        write_card(make_card(description="a\x85b"), tmp_path / "card.yaml")
    assert str(caught.value) == ("card of wnn_h8.test: a text does not survive YAML; leave out its control characters")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (without("licence"), "licence: this field is missing"),
        (content(license="MIT"), "license: there is no such field"),
        (content(context="5"), "context: expected a valid integer, got '5'"),
        (content(period=0), "period: expected greater than 0, got 0"),
        (
            content(name="wnn"),
            "name: String should match pattern '^[a-z][a-z0-9]*(_[a-z0-9]+)+\\.[a-z0-9_]+$', got 'wnn'",
        ),
        (
            content(trained_on=[{"task": "fm16", "steps": -1}]),
            "trained_on.0.steps: expected greater than 0, got -1",
        ),
        (content(trained_on=[]), "trained_on: List should have at least 1 item after validation, not 0, got []"),
        (
            content(weights={"file": "w.safetensors", "sha256": "abc", "size": 1}),
            "weights.sha256: String should match pattern '^[0-9a-f]{64}$', got 'abc'",
        ),
        (
            content(weights={"file": "../w.safetensors", "sha256": "a" * 64, "size": 1}),
            r"weights.file: String should match pattern '^\w[\w.-]*\.(safetensors|pt)$', got '../w.safetensors'",
        ),
        (
            content(weights={"file": "w.pt", "sha256": "a" * 64, "size": 1, "urls": ["http://example.org/w.pt"]}),
            f"weights.urls.0: String should match pattern '{URL_PATTERN}', got 'http://example.org/w.pt'",
        ),
        (
            content(arguments={"hidden": float("nan")}),
            "arguments: expected finite numbers, hidden is not, got {'hidden': nan}",
        ),
        (
            {**without("licence"), "period": -3},
            "period: expected greater than 0, got -3; licence: this field is missing",
        ),
        (["name"], "expected the fields of a card, got list"),
        (None, "expected the fields of a card, got NoneType"),
    ],
)
def test_what_is_wrong_is_named(fields, message):
    with pytest.raises(ZooError) as caught:
        parse_card(fields, "here")
    assert str(caught.value) == f"here: {message}"


def test_what_is_long_is_not_shown_whole():
    with pytest.raises(ZooError) as caught:
        parse_card(content(period=list(range(10**6))), "here")
    assert str(caught.value) == "here: period: expected a valid integer, got [0, 1, 2, 3, 4, 5, ...]"


def test_files_that_are_no_cards(tmp_path):
    with pytest.raises(ZooError) as caught:
        read_card(tmp_path / "card.yaml")
    assert str(caught.value) == (
        f"{tmp_path / 'card.yaml'}: can't be read (No such file or directory); an entry of the zoo has a card.yaml"
    )
    (tmp_path / "card.yaml").write_text("name: [", encoding="utf-8")
    with pytest.raises(ZooError, match=r"card\.yaml: is not YAML: while parsing"):
        read_card(tmp_path / "card.yaml")
    (tmp_path / "card.yaml").write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(ZooError, match=r"card\.yaml: is not YAML: could not determine a constructor"):
        read_card(tmp_path / "card.yaml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("created: 2026-13-45\n", "month must be in 1..12"),
        (f"seeds: {'9' * 5000}\n", r"Exceeds the limit \(\d+ digits\) for integer string conversion"),
        ("created: !!int ''\n", "string index out of range"),
        ("created: !!bool x\n", "'x'"),
        ("created: !!timestamp x\n", "'NoneType' object has no attribute 'groupdict'"),
        ("[" * 5000, "maximum recursion depth exceeded"),
        ("a: &a [1]\nb: *a\n", "a card has no aliases"),
    ],
)
def test_files_that_yaml_gives_up_on(tmp_path, content, reason):
    (tmp_path / "card.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ZooError, match=rf"card\.yaml: is not YAML: {reason}"):
        read_card(tmp_path / "card.yaml")


def test_savings_by_hand():
    """Seeds that save 40 % and -10 %, and one whose baseline alone misses the target."""
    measurement = make_measurement(
        (100, 10.0, True, 60, 9.0, True), (100, 10.0, True, 110, 12.0, True), (200, 20.0, False, 150, 18.0, True)
    )
    rows = measurement.rows
    assert [row.label for row in rows] == ["0", "1", "2", "median"]
    assert [row.steps_saved for row in rows] == [
        Saving(0.4, "="),
        Saving(-0.1, "="),
        Saving(0.25, "≥"),
        Saving(0.25, "≥"),  # the third is not below it
    ]
    assert [round(row.seconds_saved.share, 9) for row in rows] == [0.1, -0.2, 0.1, 0.1]


def test_other_ways_to_train_are_compared_with_the_same_baseline(tmp_path):
    measurement = make_measurement((100, 10.0, True, 60, 9.0, True), (200, 20.0, True, 110, 12.0, True))
    others = [Run(steps=80, seconds=5.0, reached=True), Run(steps=300, seconds=30.0, reached=False)]
    seeds = [
        seed.model_copy(update={"others": {"linefit": run}})
        for seed, run in zip(measurement.seeds, others, strict=True)
    ]
    beside = measurement.model_copy(update={"seeds": seeds})
    assert [row.steps_saved for row in beside.rows_of("linefit")[:2]] == [Saving(0.2, "="), Saving(-0.5, "≤")]
    assert beside.rows == measurement.rows
    write_card(make_card(measurements=[beside]), tmp_path / "card.yaml")
    assert read_card(tmp_path / "card.yaml").measurements == [beside]


@pytest.mark.parametrize(
    ("task", "distribution"), [("fm16", "in"), ("FM-16", "in"), ("c10_16", "in"), ("fm32", "out"), ("fm_1", "out")]
)
def test_the_distribution_follows_from_what_it_was_trained_on(task, distribution):
    card = make_card(trained_on=[TrainingTask(task="FM-16"), TrainingTask(task="C10-16")])
    assert card.distribution_of(task) == distribution


def test_what_is_measured_again_is_replaced_and_the_rest_stays(tmp_path):
    old = make_saving()
    others = [make_saving(task="fm16"), make_saving(steps=4000), make_saving(rival="muon")]
    new = make_saving(lr=0.5, period=7, seeds=9, distribution="out")
    measurement = make_measurement((100, 10.0, True, 60, 9.0, True))
    path = tmp_path / "card.yaml"
    write_card(make_card(savings=[others[0], old, *others[1:]], measurements=[measurement]), path)
    assert add_savings(path, [new]).savings == [*others, new]
    assert read_card(path) == make_card(savings=[*others, new], measurements=[measurement])
    assert [each.name for each in tmp_path.iterdir()] == ["card.yaml"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.25}, "share: expected less than or equal to 1, got 1.25"),
        ({"low": float("nan")}, "low: expected a finite number, got nan"),
        ({"high": float("-inf")}, "high: expected a finite number, got -inf"),
        ({"bound": "<"}, "bound: expected '=', '≥' or '≤', got '<'"),
    ],
)
def test_savings_that_can_not_be(changes, message):
    saving = make_saving().model_dump()
    saving["against_rival"].update(changes)
    with pytest.raises(ZooError) as caught:
        parse_card(content(savings=[saving]), "here")
    assert str(caught.value) == f"here: savings.0.against_rival.{message}"


def test_what_an_evaluation_found():
    """The rival takes 300 steps to what the nowcaster has after 200, and AdamW is not there after 400."""
    saving = TaskSaving.of(make_task_result("wnn_h8.test"), make_card())
    third = pytest.approx(1 / 3)
    assert saving == TaskSaving(
        task="digits_mlp",
        distribution="in",
        steps=200,
        seeds=2,
        period=30,  # 1.5 times the task's
        lr=0.02,
        rival="muon",
        against_rival=SavedSteps.model_construct(share=third, low=third, high=third, bound="="),
        against_adamw=SavedSteps(share=0.5, low=0.5, high=0.5, bound="≥"),
        commit="b" * 40,
        hardware="a processor, threads 1",
    )


@pytest.mark.parametrize("multiple", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("period", [15, 25])
def test_the_period_is_the_one_that_was_trained_with(period, multiple):
    recipe = Recipe(lr=0.1, weight_decay=0.0, steps=300, period=period, window=3, option=multiple)
    model = torch.nn.Linear(1, 1)
    trainer = nowcasting_arm("line", LineFit()).begin(model, recipe)
    for _ in range(60):
        trainer.zero_grad()
        model(torch.ones(1, 1)).backward()
        trainer.step()
    trainer.close()
    saving = TaskSaving.of(make_task_result("wnn_h8.test", period=period, option=multiple), make_card())
    assert trainer.events[0].step == saving.period


def test_a_period_is_at_least_a_step():
    assert TaskSaving.of(make_task_result("wnn_h8.test", period=1, option=0.5), make_card()).period == 1


def test_one_seed_has_no_median():
    assert [row.label for row in make_measurement((100, 1.0, True, 50, 1.0, True)).rows] == ["0"]


def test_name_and_tag():
    card = make_card(name="nino_h32.v1_small")
    assert (card.model, card.tag) == ("nino_h32", "v1_small")
