"""A run: when it is scored, a slow twin written as a plain loop, what is paired, and what names it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import RandomSampler

from ninokit.benchmarks import Task
from ninokit.benchmarks.arms import find_arm
from ninokit.benchmarks.arms.adamw import ADAMW
from ninokit.benchmarks.arms.null import NULL
from ninokit.benchmarks.evaluation.run import ArmRun, RunPlan, train_arm


def test_evaluations_of_a_long_task(plan):
    long = replace(plan, task=replace(plan.task, total_steps=2000), steps=2000)
    assert (long.eval_every, long.window) == (50, 200)
    assert long.evaluations == {"averaged": list(range(50, 2001, 50)), "raw": [500, 1000, 2000]}
    assert replace(long, curve="raw").evaluations == {"raw": list(range(50, 2001, 50)), "averaged": [500, 1000, 2000]}
    assert replace(long, curve=None).evaluations == {"averaged": [2000], "raw": [2000]}
    assert replace(long, steps=500).evaluations == {"averaged": list(range(50, 501, 50)), "raw": [500]}
    assert replace(long, steps=4000).evaluations["averaged"] == list(range(50, 4001, 50))
    assert replace(long, steps=4000).evaluations["raw"] == [500, 1000, 2000, 4000]


def test_quarters_that_no_evaluation_meets(plan):
    odd = replace(plan, task=replace(plan.task, total_steps=90), steps=90)
    assert odd.eval_every == 2
    assert odd.evaluations["averaged"] == sorted({*range(2, 91, 2), 22, 45, 90})
    assert odd.evaluations["raw"] == [22, 45, 90]


def test_a_task_of_three_steps(plan):
    short = replace(plan, task=replace(plan.task, total_steps=3), steps=3)
    assert (short.window, short.eval_every) == (1, 1)
    assert short.evaluations == {"averaged": [1, 2, 3], "raw": [1, 3]}


def epoch_of(data, task, generator):
    """The indices of each batch of the next epoch."""
    order = torch.tensor(list(RandomSampler(range(len(data.train_inputs)), generator=generator)))
    return list(order.split(task.batch_size))


def plain_run(task, seed, lr, steps, split):
    """The weights, the losses at their average and the losses at them, after every step."""
    data = task.load_data(None)
    half = len(data.test_inputs) // 2
    part = slice(half) if split == "validation" else slice(half, None)
    inputs, labels = data.test_inputs[part], data.test_labels[part]
    torch.manual_seed(seed)
    model, order = task.build_model(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=task.weight_decay)
    queue, mean, weights, averaged, raw = [], None, [], {}, {}
    for step in range(1, steps + 1):
        queue = queue or epoch_of(data, task, order)
        which = queue.pop(0)
        optimizer.zero_grad()
        cross_entropy(model(data.train_inputs[which]), data.train_labels[which]).backward()
        optimizer.step()
        now = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        share = max(1 / step, 2 / (task.total_steps // 10 + 1))
        mean = now if mean is None else (1 - share) * mean + share * now
        other = task.build_model()
        nn.utils.vector_to_parameters(mean, other.parameters())
        weights.append(now)
        averaged[step] = cross_entropy(other(inputs), labels).item()
        raw[step] = cross_entropy(model(inputs), labels).item()
    return weights, averaged, raw


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_plain_loop_finds_the_same(plan, monkeypatch, split):
    seen = []
    score = Task.held_out_loss

    def look(task, model, data, split):
        seen.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        return score(task, model, data, split)

    monkeypatch.setattr(Task, "held_out_loss", look)
    run = train_arm(replace(plan, curve="raw", split=split, steps=45), plan.task.load_data(None), show_progress=False)
    weights, averaged, raw = plain_run(plan.task, 3, 0.01, 45, split)
    assert list(run.raw) == list(range(1, 46))
    assert run.raw == pytest.approx(raw, abs=1e-6)
    assert list(run.averaged) == [10, 20, 40, 45]
    assert run.averaged == pytest.approx({step: averaged[step] for step in run.averaged}, abs=1e-6)
    scored = iter(seen)
    for step, trained in enumerate(weights, start=1):
        if step in run.averaged:
            next(scored)
        assert torch.equal(next(scored), trained)
    assert run.events == ()


def test_the_dense_curve_changes_nothing_but_where_it_is_read(plan):
    data = plan.task.load_data(None)
    averaged, raw, end = (train_arm(replace(plan, curve=curve), data) for curve in ("averaged", "raw", None))
    assert {step: averaged.averaged[step] for step in raw.averaged} == raw.averaged
    assert {step: raw.raw[step] for step in averaged.raw} == averaged.raw
    assert (end.averaged, end.raw) == ({40: averaged.averaged[40]}, {40: raw.raw[40]})


def test_a_run_has_both_losses():
    run = ArmRun({1: 2.0}, {1: 3.0})
    assert (run.losses("averaged"), run.losses("raw")) == ({1: 2.0}, {1: 3.0})


def test_two_arms_begin_alike_and_see_the_same_batches(plan, monkeypatch):
    seen = []
    loss = Task.loss

    def look(task, model, inputs, labels):
        first = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        seen.append((first, inputs.clone(), labels.clone()))
        return loss(task, model, inputs, labels)

    monkeypatch.setattr(Task, "loss", look)
    batches = {}
    for name, seed in (("adamw", 3), ("muon", 3), ("adamw", 4)):
        torch.manual_seed(len(batches))  # must not count
        seen.clear()
        train_arm(replace(plan, arm=find_arm(name), seed=seed), plan.task.load_data(None))
        batches[name, seed] = list(seen)
    mine, theirs, others = batches.values()
    assert torch.equal(mine[0][0], theirs[0][0])
    assert not torch.equal(mine[5][0], theirs[5][0])
    assert all(torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(mine, theirs, strict=True))
    assert not torch.equal(mine[0][0], others[0][0])
    assert not torch.equal(mine[0][1], others[0][1])


def test_torchs_random_state_is_as_before(plan):
    before = torch.random.get_rng_state()
    train_arm(plan, plan.task.load_data(None))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_average_has_statistics_of_its_own(plan, monkeypatch):
    """The mean over ten batches of another order, of the averaged weights."""
    seen = []
    score = Task.held_out_loss

    def look(task, model, data, split):
        norm = model[1]
        seen.append((model[0].weight.detach().clone(), model[0].bias.detach().clone(), norm.running_mean.clone()))
        return score(task, model, data, split)

    monkeypatch.setattr(Task, "held_out_loss", look)
    task = replace(plan.task, build_model=lambda: nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    data = task.load_data(None)
    train_arm(replace(plan, task=task, curve=None), data)
    (weight, bias, statistics), (trained, _, own) = seen
    batches, order = [], torch.Generator().manual_seed(plan.seed + 1)
    while len(batches) < 10:
        batches += epoch_of(data, task, order)
    means = [(data.train_inputs[which] @ weight.T + bias).mean(0) for which in batches[:10]]
    torch.testing.assert_close(statistics, torch.stack(means).mean(0))
    assert not torch.equal(weight, trained)
    assert not torch.allclose(own, statistics, atol=1e-4)


def test_events_of_a_nowcasting_arm(plan):
    run = train_arm(replace(plan, arm=NULL, option=1.5), plan.task.load_data(None))
    assert [(event.step, event.accepted) for event in run.events] == [(15, True)]


def test_hooks_are_gone_when_a_run_fails(plan, monkeypatch):
    closed, model = [], nn.Linear(2, 3)
    begin = plan.arm.begin

    def watched(model, recipe):
        trainer = begin(model, recipe)
        close = trainer.close
        trainer.close = lambda: closed.append(close())
        return trainer

    task = replace(plan.task, build_model=lambda: model)
    monkeypatch.setattr(Task, "loss", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_arm(replace(plan, task=task, arm=replace(plan.arm, begin=watched)), plan.task.load_data(None))
    assert closed == [None]


def test_adamws_trained_weights_are_scored_as_often_as_its_average(plan):
    """So that it can be read what the average alone saves."""
    run = train_arm(replace(plan, arm=ADAMW), plan.task.load_data(None))
    assert list(run.raw) == list(run.averaged) == replace(plan, arm=ADAMW).evaluations["averaged"]


def test_the_file_of_a_run(plan):
    assert plan.file.as_posix() == "tiny-40/adamw-lr0.01-40-test-averaged-seed3.json"
    trial = replace(plan, option=0.95, split="validation", curve=None, arm=find_arm("muon+linefit"))
    assert trial.file.as_posix() == f"tiny-40/muon+linefit-lr0.01-0.95-p{plan.task.period}-40-validation-seed3.json"


OTHERS = {
    "arm": find_arm("muon"),
    "lr": 0.02,
    "option": 0.9,
    "seed": 4,
    "steps": 20,
    "split": "validation",
    "curve": "raw",
}


def test_files_differ_wherever_the_settings_of_a_run_do(plan):
    """All fields of a plan but the device, in all pairs."""
    assert {field.name for field in fields(RunPlan)} == {*OTHERS, "task", "device"}
    plans = [plan]
    for name, value in OTHERS.items():
        plans += [replace(each, **{name: value}) for each in plans]
    plans += [replace(each, curve=None) for each in plans if each.curve == "raw"]
    tasks = [plan.task, replace(plan.task, name="other"), replace(plan.task, total_steps=80)]
    plans = [replace(each, task=task) for each in plans for task in tasks]
    assert len({each.file for each in plans}) == len(plans) == 576
    settings = [tuple(sorted(each.settings.items(), key=str)) for each in plans]
    assert len({repr(each) for each in settings}) == len(plans)
    assert replace(plan, device="cuda").file == plan.file


def test_files_differ_where_the_period_or_the_weights_of_a_nowcaster_do(plan):
    arm = find_arm("linefit")
    plans = [replace(plan, arm=replace(arm, weights_sha256=weights)) for weights in (None, "ab" * 32, "cd" * 32)]
    plans += [replace(each, task=replace(plan.task, period=7)) for each in plans]
    assert len({each.file for each in plans}) == 6
    assert replace(plan, task=replace(plan.task, period=7)).file == plan.file  # which has no jumps


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"weight_decay": 0.2}, "weight_decay"),
        ({"batch_size": 8}, "batch_size"),
        ({"period": 5}, "period"),
        ({"name": "other"}, "task"),
    ],
)
def test_settings_tell_tasks_apart(plan, changes, name):
    plan = replace(plan, arm=NULL)
    other = replace(plan, task=replace(plan.task, **changes)).settings
    assert {key for key in other if other[key] != plan.settings[key]} == {name}


def test_the_period_counts_for_arms_that_jump_alone(plan):
    assert plan.settings["period"] is None
    assert replace(plan, arm=NULL).settings["period"] == 10


def test_settings_tell_weights_apart(plan):
    other = replace(plan, arm=replace(plan.arm, weights_sha256="ab")).settings
    assert other == plan.settings | {"weights_sha256": "ab"}
