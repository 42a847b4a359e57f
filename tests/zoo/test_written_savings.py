"""``ninokit evaluate … write_cards=true``: whose card gets rows, and what is left alone."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hand_made_cards import make_card, make_measurement, make_saving, make_task_result

from ninokit.benchmarks import ClassificationData, Task
from ninokit.benchmarks.data import kept_data
from ninokit.benchmarks.evaluation import evaluate as module
from ninokit.benchmarks.evaluation.evaluate import evaluate
from ninokit.benchmarks.evaluation.results import Evaluation, read_evaluation
from ninokit.benchmarks.evaluation.settings import EvaluateConfig
from ninokit.nowcasters import Wnn
from ninokit.nowcasters.published import to_published
from ninokit.zoo import Entry, TaskSaving, write_entry
from ninokit.zoo.card import read_card, write_card

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def found(monkeypatch) -> Callable[..., None]:
    """What the trainings of the next evaluation find."""

    def stand_in(*tasks: object) -> None:
        monkeypatch.setattr(module, "_evaluate", lambda *_: Evaluation({}, tasks))

    return stand_in


def settings(*arms: str, write_cards: bool = True) -> EvaluateConfig:
    return EvaluateConfig(tasks=["digits_mlp"], arms=list(arms), write_cards=write_cards)


def test_every_nowcaster_on_adamw_that_is_here_gets_its_rows(found, offered):
    named, other, prefixed = offered(*(make_card(name=f"wnn_h8.{tag}") for tag in "abc"))
    names = [entry.card.name for entry in (named, other, prefixed)]
    tasks = [make_task_result(*names), make_task_result(*names, task="fm16")]
    found(*tasks)
    evaluate(settings("muon", "wnn_h8.a", f"local-dir:{other.folder}", "adamw+wnn_h8.c"))
    for entry in (named, other, prefixed):
        card = read_card(entry.folder / "card.yaml")
        assert card.savings == [TaskSaving.of(task, entry.card) for task in tasks]
        assert [row.distribution for row in card.savings] == ["in", "out"]
        assert card.model_copy(update={"savings": []}) == entry.card


def test_a_name_without_its_tag_is_its_entry(found, offered):
    (entry,) = offered(make_card())
    found(make_task_result("wnn_h8.test"))
    evaluate(settings("wnn_h8"))
    assert len(read_card(entry.folder / "card.yaml").savings) == 1


def test_what_was_there_stays_and_the_same_question_is_answered_anew(found, written):
    kept, measured = make_saving(task="fm16"), make_measurement((100, 1.0, True, 60, 1.0, True))
    asked_before = make_saving(task="digits_mlp", steps=200, rival="muon")
    path = written / "card.yaml"
    write_card(read_card(path).model_copy(update={"savings": [asked_before, kept], "measurements": [measured]}), path)
    result = make_task_result("wnn_h8.test")
    found(result)
    evaluate(settings(f"local-dir:{written}"))
    card = read_card(path)
    assert card.savings == [kept, TaskSaving.of(result, card)]
    assert card.measurements == [measured]


def test_no_card_is_touched_unasked(found, written):
    before = (written / "card.yaml").read_bytes()
    found(make_task_result("wnn_h8.test"))
    evaluate(settings(f"local-dir:{written}", write_cards=False))
    assert (written / "card.yaml").read_bytes() == before


def test_other_arms_have_no_card_here(found, offered, tmp_path, server, written, wnn):
    """Registered ones, families, checkpoints, nowcasters on other arms, and a copy of what lies elsewhere."""
    (entry,) = offered(make_card(name="wnn_h8.a"))
    torch.save(to_published(wnn), tmp_path / "x.pt")
    address = server.offer("/entry/card.yaml", (written / "card.yaml").read_bytes()).removesuffix("/card.yaml")
    found(make_task_result("wnn_h8.test", "wnn_h8.a"))
    cards = {path: path.read_bytes() for path in tmp_path.rglob("card.yaml")}
    evaluate(settings("adamw", "snoo", "linefit", str(tmp_path / "x.pt"), "muon+wnn_h8.a", "muon+linefit", address))
    assert entry.folder / "card.yaml" in cards
    assert {path: path.read_bytes() for path in tmp_path.rglob("card.yaml")} == cards


def test_a_card_that_can_not_be_written_does_not_fail_the_evaluation(found, written, monkeypatch, caplog):
    def refuse(path: Path, measured: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "add_savings", refuse)
    found(make_task_result("wnn_h8.test"))
    with caplog.at_level(logging.WARNING):
        assert evaluate(settings(f"local-dir:{written}")).tasks
    assert caplog.messages == [
        f"{written / 'card.yaml'}: can't be written (Permission denied); what was measured is in the evaluation alone"
    ]


def two_sides(root: object) -> ClassificationData:
    """Points left and right of a line."""
    inputs = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    labels = (inputs.sum(1) > 0).long()
    return ClassificationData(
        train_inputs=inputs[:40], train_labels=labels[:40], test_inputs=inputs[40:], test_labels=labels[40:]
    )


@pytest.fixture
def short(monkeypatch) -> Iterator[None]:
    """Registers a task of a few steps."""
    task = Task(
        name="sides",
        description="two sides of a line",
        build_model=lambda: torch.nn.Linear(2, 2),
        load_data=two_sides,
        batch_size=10,
        lr=0.01,
        weight_decay=0.0,
        total_steps=40,
        eval_every=10,
        target=0.9,
        period=10,
    )
    tasks = types.SimpleNamespace(tasks=lambda: {task.name: task})
    monkeypatch.setattr("ninokit.benchmarks.tasks.finding.registry", lambda: tasks)
    kept_data.cache_clear()
    yield
    kept_data.cache_clear()


@pytest.mark.usefixtures("short")
def test_what_was_trained(tmp_path):
    pytest.importorskip("matplotlib")
    nowcaster = Wnn(hidden=8, context=3, max_horizon=7)
    write_entry(tmp_path / "entry", nowcaster, make_card())
    config = EvaluateConfig(
        tasks=["sides"],
        arms=[f"local-dir:{tmp_path / 'entry'}"],
        seeds=[0, 1],
        lr_factors=[1.0],
        out=str(tmp_path / "out"),
        store=str(tmp_path / "runs"),
        write_cards=True,
    )
    evaluate(config)
    (row,) = Entry.open(tmp_path / "entry").card.savings
    (task,) = read_evaluation(tmp_path / "out" / "evaluation.json").tasks
    assert (row.task, row.distribution, row.steps, row.seeds, row.rival) == ("sides", "out", 40, 2, "adamw")
    jumps = task.arm("wnn_h8.test").jumps
    assert jumps[0] == row.period
    saved = task.saved("wnn_h8.test", "adamw")
    assert row.against_adamw.model_dump() == {
        "share": saved.share,
        "low": saved.low,
        "high": saved.high,
        "bound": saved.bound,
    }
