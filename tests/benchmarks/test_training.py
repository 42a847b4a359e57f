"""A run is reproducible, sees the same batches with and without nowcasting, and is what a plain loop does."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.nn import functional

import ninokit
from ninokit.benchmarks import VALIDATION_LOSS, training
from ninokit.benchmarks.training import batches, nowcast_with, train
from ninokit.nowcasters import LineFit


def _measured(record):
    """Everything but the timing."""
    return [(point.step, point.train_loss, point.score) for point in record.points]


def _linefit(optimizer, model):
    return ninokit.attach(optimizer, model, "linefit", period=10, total_steps=40)


def test_every_epoch_shows_every_example_once_in_a_new_order(tiny):
    data = tiny.load_data(None)
    sizes, epochs = [], []
    stream = batches(data, 16, seed=0)
    for _ in range(2):
        epoch = list(islice(stream, 5))  # 70 examples: 4 batches of 16 and one of 6
        sizes.append([len(labels) for _, labels in epoch])
        epochs.append(torch.cat([inputs for inputs, _ in epoch]))
    assert sizes == [[16, 16, 16, 16, 6]] * 2
    assert not torch.equal(epochs[0], epochs[1])
    for epoch in epochs:
        assert torch.equal(epoch.sort(dim=0).values, data.train_inputs.sort(dim=0).values)


def test_inputs_stay_with_their_labels(tiny):
    data = tiny.load_data(None)
    labels = {tuple(x.tolist()): int(y) for x, y in zip(data.train_inputs, data.train_labels, strict=True)}
    for inputs, classes in islice(batches(data, 16, seed=0), 5):
        assert [labels[tuple(x.tolist())] for x in inputs] == classes.tolist()


def test_batches_do_not_depend_on_the_global_random_state(tiny):
    data = tiny.load_data(None)
    torch.manual_seed(1)
    first = [inputs for inputs, _ in islice(batches(data, 16, seed=5), 12)]
    torch.manual_seed(2)
    second = batches(data, 16, seed=5)
    for expected in first:
        torch.rand(3)
        assert torch.equal(next(second)[0], expected)


def test_batches_leave_the_global_random_state(tiny):
    before = torch.get_rng_state()
    list(islice(batches(tiny.load_data(None), 16, seed=5), 12))
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_differ_between_seeds(tiny):
    data = tiny.load_data(None)
    assert not torch.equal(next(batches(data, 16, 0))[0], next(batches(data, 16, 1))[0])


def test_nowcasting_sees_the_same_batches_as_the_baseline(tiny, monkeypatch):
    seen: list[list[torch.Tensor]] = []

    def recording(data, batch_size, seed):
        seen.append([])
        for inputs, labels in batches(data, batch_size, seed):
            seen[-1].append(inputs)
            yield inputs, labels

    monkeypatch.setattr(training, "batches", recording)

    def noisy(optimizer, model):
        """Nowcasting whose nowcaster draws from the global random state."""
        optimizer.register_step_post_hook(lambda *_: torch.rand(1))
        return _linefit(optimizer, model)

    data = tiny.load_data(None)
    train(tiny, data, seed=4)
    record = train(tiny, data, seed=4, attach=noisy)
    assert len(record.events) == 3
    assert len(seen[0]) == len(seen[1]) == 40
    assert all(map(torch.equal, *seen))


@pytest.mark.parametrize("attach", [None, _linefit])
def test_the_same_seed_gives_the_same_bits(tiny, attach):
    data = tiny.load_data(None)
    first, second = (train(tiny, data, seed=3, attach=attach) for _ in range(2))
    assert _measured(first) == _measured(second)
    assert _measured(first) != _measured(train(tiny, data, seed=4, attach=attach))


def test_the_baseline_is_a_plain_loop(tiny):
    data = tiny.load_data(None)
    record = train(tiny, data, seed=11)

    torch.manual_seed(11)
    model = tiny.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    losses, expected = [], []
    for step, (inputs, labels) in enumerate(islice(batches(data, 16, seed=11), 40), start=1):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in {15, 30, 40}:
            score = (model(data.test_inputs).argmax(1) == data.test_labels).sum().item() / 40
            expected.append((step, pytest.approx(sum(losses) / len(losses)), score))
            losses.clear()
    assert _measured(record) == expected


def test_it_stops_at_the_target_if_asked(tiny):
    data = tiny.load_data(None)
    whole = train(tiny, data, seed=11)
    task = replace(tiny, target=whole.points[1].score)
    stopped = train(task, data, seed=11, stop_at_target=True)
    reached = next(n for n, point in enumerate(whole.points, start=1) if point.score >= task.target)
    assert _measured(stopped) == _measured(whole)[:reached]


def test_it_stops_at_a_loss_below_the_target(tiny):
    task = replace(tiny, metric=VALIDATION_LOSS, eval_every=5)
    data = task.load_data(None)
    losses = [point.score for point in train(task, data, seed=11).points]
    assert losses == sorted(losses, reverse=True)  # three blobs: nothing but better
    stopped = train(replace(task, target=losses[3]), data, seed=11, stop_at_target=True)
    assert [point.score for point in stopped.points] == losses[:4]


def test_nowcasting_is_the_plain_loop_with_attach(tiny):
    data = tiny.load_data(None)
    record = train(tiny, data, seed=11, attach=_linefit)

    torch.manual_seed(11)
    model = tiny.build_model()
    optimizer = tiny.build_optimizer(model)
    nowcasting = _linefit(optimizer, model)
    for inputs, labels in islice(batches(data, 16, seed=11), 40):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    assert record.points[-1].score == tiny.evaluate(model, data)
    assert [event.step for event in record.events] == [event.step for event in nowcasting.events] == [10, 20, 30]
    assert _measured(record) != _measured(train(tiny, data, seed=11))


def test_nowcasting_as_the_task_has_it(tiny):
    data = tiny.load_data(None)
    record = train(tiny, data, seed=11, attach=nowcast_with(LineFit(), tiny))
    assert [event.step for event in record.events] == [10, 20, 30]
    assert _measured(record) == _measured(train(tiny, data, seed=11, attach=_linefit))


def test_the_first_point_is_before_the_first_nowcast_the_same(tiny):
    task = replace(tiny, eval_every=5)
    data = task.load_data(None)
    baseline, nowcasting = train(task, data, seed=0), train(task, data, seed=0, attach=_linefit)
    assert _measured(baseline)[0] == _measured(nowcasting)[0]
    assert _measured(baseline)[2] != _measured(nowcasting)[2]


def test_the_clock_counts_training_and_attaching_but_not_evaluation(tiny, monkeypatch):
    """A clock that only the parts advance: 1 s a training step, 100 s an evaluation, 7 s for attaching."""
    now = 0.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(training.time, "perf_counter", lambda: now)

    class Timed(type(tiny)):
        def loss(self, model, inputs, labels):
            advance(1)
            return super().loss(model, inputs, labels)

        def evaluate(self, model, data):
            advance(100)
            return super().evaluate(model, data)

    def attach(optimizer, model):
        advance(7)
        return _linefit(optimizer, model)

    task = Timed(**vars(tiny))
    data = task.load_data(None)
    assert [point.seconds for point in train(task, data, seed=0).points] == [15, 30, 40]
    assert [point.seconds for point in train(task, data, seed=0, attach=attach).points] == [22, 37, 47]


def test_the_global_random_state_is_left_as_it_was(tiny):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train(tiny, tiny.load_data(None), seed=9, attach=_linefit)
    assert torch.equal(torch.get_rng_state(), before)


def test_nowcasting_is_detached_even_if_training_fails(tiny):
    handles = []

    def attach(optimizer, model):
        handles.append((_linefit(optimizer, model), optimizer))
        return handles[-1][0]

    class Broken(type(tiny)):
        def evaluate(self, model, data):
            raise RuntimeError("no evaluation today")

    with pytest.raises(RuntimeError, match="no evaluation today"):
        train(Broken(**vars(tiny)), tiny.load_data(None), seed=0, attach=attach)
    nowcasting, optimizer = handles[0]
    before = nowcasting.steps
    optimizer.step()
    assert nowcasting.steps == before > 0
