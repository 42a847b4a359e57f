"""Steps gained: by nowcasters whose worth is known, and from the cache."""

import dataclasses
import functools
import re

import numpy as np
import pytest
import torch

from ninokit.benchmarks.gain import gain
from ninokit.benchmarks.gain import measure as measure_module
from ninokit.benchmarks.gain.bank import train_on
from ninokit.benchmarks.gain.checkpoint import trainable
from ninokit.benchmarks.gain.training import made
from ninokit.errors import ConfigError
from ninokit.nowcasters import LineFit, Nowcaster, Wnn

SETTINGS = {"name": "tiny", "period": 20, "times": [40, 80], "horizons": [2], "recovery": 50, "earlier": None}


class Fixed(Nowcaster):
    """Predicts what a function of the history says."""

    context = 5
    max_horizon = 3
    needs_graph = False

    def __init__(self, predict):
        self.predict = predict

    def forecast(self, graph, history, horizon):
        yield from self.predict(history).items()


def last(history):
    return {name: states[-1].clone() for name, states in history.items()}


def only(table, **kind):
    found = [row for row in table.rows if all(getattr(row, name) == value for name, value in kind.items())]
    assert found
    return found


def test_a_nowcaster_that_knows_the_future_gains_it(maker):
    training = made(maker(), 0, 1.0)
    future = {}

    def remember(step):
        future[step] = {name: each.detach().clone() for name, each in trainable(training.model).items()}

    train_on(training, training.batches(0), range(1, 601), [remember])
    tables = [
        gain(
            maker(),
            {"cheat": Fixed(lambda history, at=time: future[at + 300])},
            **{**SETTINGS, "period": 40, "times": [time]},
        )
        for time in (40, 80)
    ]

    cheats = [row for table in tables for row in only(table, nowcaster="cheat")]
    assert [(row.inputs, row.time) for row in cheats] == [(i, t) for t in (40, 80) for i in ("states", "means")]
    assert all(row.bound == "=" and row.gained == pytest.approx(300, abs=90) for row in cheats)
    noise = [row.gained for table in tables for row in only(table, nowcaster="no jump")]
    assert all(abs(gained) < 60 for gained in noise)


def test_one_that_predicts_no_change_is_the_trial_without_a_jump(noisy):
    table = gain(noisy, {"still": Fixed(last)}, **SETTINGS)

    for time in (40, 80):
        (still,) = only(table, nowcaster="still", inputs="states", time=time)
        (none,) = only(table, nowcaster="no jump", time=time)
        assert (still.loss, still.gained) == (none.loss, none.gained)  # to the last bit, dropout and all


@pytest.mark.parametrize("jumps", [False, True])
def test_a_trial_is_that_of_a_slow_twin(maker, jumps):
    """Recovery steps that are no whole number of blocks, too."""
    settings = {**SETTINGS, "times": [40], "recovery": 60, "inputs": ["states"]}
    table = gain(maker(), {"linefit": LineFit()}, **settings)

    training = made(maker(), 0, 1.0)
    parameters = trainable(training.model)
    past = {}

    def remember(step):
        past[step] = {name: each.detach().double().numpy().copy() for name, each in parameters.items()}

    train_on(training, training.batches(0), range(1, 41), [remember])
    for name, parameter in parameters.items() if jumps else ():
        states = np.stack([past[step][name].ravel() for step in (24, 28, 32, 36, 40)])
        slope, level = np.polyfit(range(-4, 1), states, 1)
        parameter.data.copy_(torch.from_numpy(level + 2 * slope).view(parameter.shape))
    train_on(training, training.batches(measure_module.trial_stream(0, 40)), range(41, 101), [remember])
    for name, parameter in parameters.items():
        parameter.data.copy_(torch.from_numpy(np.mean([past[step][name] for step in range(51, 101)], axis=0)))
    training.model.eval()
    (row,) = only(table, nowcaster="linefit" if jumps else "no jump")
    assert row.loss == pytest.approx(training.validation_loss(training.model), rel=1e-5)


def test_the_batches_of_trials_are_of_streams_of_their_own():
    streams = {measure_module.trial_stream(seed, step) for seed in range(10) for step in range(100, 5000, 100)}

    assert len(streams) == 490
    assert min(streams) > 1000
    assert max(streams) < 2**31


def test_from_means_the_prediction_is_taken_as_it_is(maker):
    """Weights that a forecast from means keeps at the mean are at the mean, and not moved by its difference."""
    seen = []

    def mean(history):
        seen.append(history)
        return last(history)

    table = gain(maker(), {"mean": Fixed(mean)}, **{**SETTINGS, "times": [80], "inputs": ["means"]})

    (history,) = seen
    training = made(maker(), 0, 1.0)
    sums = {name: torch.zeros_like(each, dtype=torch.float64) for name, each in trainable(training.model).items()}

    def add(step):
        for name, each in trainable(training.model).items() if step > 76 else ():
            sums[name] += each.detach() / 4

    train_on(training, training.batches(0), range(1, 81), [add])
    for name, total in sums.items():
        torch.testing.assert_close(history[name][-1].double(), total, rtol=1e-6, atol=1e-7)
    assert only(table, nowcaster="mean")[0].loss != only(table, nowcaster="no jump")[0].loss


def test_an_absurd_one_loses(maker):
    absurd = Fixed(lambda history: {name: -3 * value for name, value in last(history).items()})
    rows = only(gain(maker(), {"absurd": absurd}, **SETTINGS), nowcaster="absurd")

    assert all(row.bound == "≤" and row.gained == 50 - (row.time + 50) for row in rows)


@pytest.mark.parametrize(
    ("predict", "reason"),
    [
        (lambda h: {n: v * torch.nan for n, v in last(h).items()}, r"prediction of 0.weight: not finite \(NaN or in"),
        (lambda h: {}, r"prediction of 0.bias: missing \(4 in all\)"),
        (lambda h: 1 / 0, r"ZeroDivisionError: division by zero"),
        (lambda h: {n: v + 1e30 for n, v in last(h).items()}, r"the validation loss is (inf|nan) after 50 steps"),
    ],
    ids=["nan", "missing", "error", "diverged"],
)
def test_a_trial_without_a_loss_has_the_reason(maker, predict, reason):
    table = gain(maker(), {"bad": Fixed(predict)}, **SETTINGS)

    for row in only(table, nowcaster="bad"):
        assert (row.loss, row.gained, row.bound) == (None, None, None)
        assert re.match(reason, row.reason)
    assert all(row.gained is not None and row.reason == "" for row in only(table, nowcaster="no jump"))


def test_a_refused_jump_does_not_touch_the_next_trial(maker):
    calls = []

    def bad_at_first(history):
        calls.append(1)
        values = last(history)
        return {**values, "2.bias": values["2.bias"] * torch.nan} if len(calls) == 1 else values

    table = gain(maker(), {"moody": Fixed(bad_at_first)}, **{**SETTINGS, "times": [80], "horizons": [1, 2]})
    by_horizon = {row.horizon: row for row in only(table, nowcaster="moody", inputs="states")}

    assert "not finite" in by_horizon[1].reason
    assert by_horizon[2].loss == only(table, nowcaster="no jump")[0].loss


def test_frozen_parameters_stay(maker):
    def make(seed):
        training = maker()(seed)
        training.model[0].weight.requires_grad_(False)
        return training

    seen = []
    shifted = Fixed(lambda history: seen.append(list(history)) or last(history))

    gain(make, {"shifted": shifted}, **{**SETTINGS, "times": [80], "inputs": ["states"]})

    assert seen == [["0.bias", "2.weight", "2.bias"]]


def test_a_nowcaster_that_reads_the_graph_sees_frozen_parameters(maker):
    def make(seed):
        training = maker()(seed)
        training.model[0].weight.requires_grad_(False)
        return training

    seen = []

    class Reader(Fixed):
        needs_graph = True

        def forecast(self, graph, history, horizon):
            seen.append((set(graph.parameters), {name: states.shape for name, states in history.items()}))
            yield from last(history).items()

    table = gain(make, {"reader": Reader(None)}, **{**SETTINGS, "times": [80], "inputs": ["states"]})

    ((parameters, shapes),) = seen
    assert parameters == set(shapes) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert shapes["0.weight"] == (5, 8, 3)
    assert only(table, nowcaster="reader")[0].loss == only(table, nowcaster="no jump")[0].loss


def no_training(*args, **settings):
    raise AssertionError("this is in the cache")


def test_the_second_time_nothing_is_trained(noisy, monkeypatch, tmp_path):
    nowcasters = {"linefit": LineFit(), "wnn": Wnn(hidden=4)}
    settings = {**SETTINGS, "earlier": LineFit(), "rates": [1.0, 2.0]}
    first = gain(noisy, nowcasters, **settings)
    assert len(list((tmp_path / "cache" / "banks").glob("tiny-*/bank.pt"))) == 4

    monkeypatch.setattr("ninokit.benchmarks.gain.bank.train_step", no_training)
    state = torch.get_rng_state()
    assert gain(noisy, nowcasters, **settings) == first
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(AssertionError, match="in the cache"):
        gain(noisy, {"wnn": Wnn(hidden=4)}, **settings)  # of other weights


def counted(monkeypatch):
    steps = []
    step = functools.partial(measure_module.run_trial)

    def run_trial(trial, *args):
        steps.append(trial)
        return step(trial, *args)

    monkeypatch.setattr(measure_module, "run_trial", run_trial)
    return steps


def test_another_horizon_costs_its_trials_alone(maker, monkeypatch):
    gain(maker(), {"linefit": LineFit()}, **SETTINGS)
    trials = counted(monkeypatch)
    monkeypatch.setattr(measure_module, "build_bank", no_training)

    gain(maker(), {"linefit": LineFit()}, **{**SETTINGS, "horizons": [2, 4]})

    assert {(trial.horizon, trial.inputs) for trial in trials} == {(4, "states"), (4, "means")}
    assert len(trials) == 4


@pytest.mark.parametrize(
    "change",
    [{"period": 40}, {"times": [80]}, {"rates": [2.0]}, {"seeds": [1]}, {"name": "other"}, {"lr": 3e-3}],
    ids=str,
)
def test_another_setting_builds_anew(maker, monkeypatch, change):
    gain(maker(), {"linefit": LineFit()}, **SETTINGS)
    monkeypatch.setattr(measure_module, "build_bank", no_training)

    make = maker(lr=change.pop("lr", 1e-3))
    with pytest.raises(AssertionError, match="in the cache"):
        gain(make, {"linefit": LineFit()}, **{**SETTINGS, **change})


def test_other_data_builds_anew(maker, monkeypatch):
    gain(maker(), {"linefit": LineFit()}, **SETTINGS)
    monkeypatch.setattr(measure_module, "build_bank", no_training)

    def make(seed):
        return dataclasses.replace(maker()(seed), validation_loss=lambda network: 0.5)

    with pytest.raises(AssertionError, match="in the cache"):
        gain(make, {"linefit": LineFit()}, **SETTINGS)


def test_a_nowcaster_that_nothing_tells_apart_is_measured_each_time(maker, monkeypatch):
    gain(maker(), {"still": Fixed(last)}, **SETTINGS)
    trials = counted(monkeypatch)

    gain(maker(), {"still": Fixed(last)}, **SETTINGS)

    assert {trial.nowcaster for trial in trials} == {"still"}


def test_a_damaged_bank_is_told(maker, tmp_path):
    gain(maker(), {"linefit": LineFit()}, **SETTINGS)
    (path,) = (tmp_path / "cache" / "banks").glob("tiny-*/bank.pt")
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ConfigError, match=r"bank.pt: expected a bank of checkpoints; got .* Remove the folder, and it"):
        gain(maker(), {"linefit": LineFit()}, **SETTINGS)


def test_rows_are_of_all_kinds(maker):
    settings = {**SETTINGS, "rates": [0.5, 1.0], "times": [20, 40], "horizons": [3, 5], "earlier": LineFit()}
    table = gain(maker(), {"linefit": LineFit(), "short": Fixed(last)}, **settings)

    kinds = {(row.rate, row.seed, row.earlier, row.time) for row in table.rows}
    assert kinds == {(r, s, e, t) for r in (0.5, 1.0) for s in (0,) for e in (False, True) for t in (20, 40)}
    of_each = [(row.nowcaster, row.inputs, row.horizon) for row in table.rows if row.time == 40][:7]
    assert of_each == [
        ("no jump", None, None),
        *[("linefit", inputs, horizon) for inputs in ("states", "means") for horizon in (3, 5)],
        *[("short", inputs, 3) for inputs in ("states", "means")],  # it can't look ahead by 5
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "gain: name must be letters, digits, _, . and -; got 'a/b'"),
        ({"nowcasters": {}}, r"gain: nowcasters must be at least one, none called 'no jump'; got \[\]"),
        ({"period": 4}, "gain: period must be at least 5 steps, one a state of the context; got 4"),
        ({"times": [80, 90]}, r"gain: times must be whole periods of 20 steps, distinct; got \[80, 90\]"),
        ({"horizons": []}, r"gain: horizons must be distinct whole numbers from 1; got \[\]"),
        ({"rates": [0.0]}, r"gain: rates must be distinct numbers above 0; got \[0.0\]"),
        ({"seeds": [1, 1]}, r"gain: seeds must be distinct whole numbers; got \[1, 1\]"),
        ({"inputs": ["weights"]}, r"gain: inputs must be states, means or both; got \['weights'\]"),
        ({"recovery": 40}, "gain: recovery must be at least 50 steps, to average over; got 40"),
        (
            {"earlier": Fixed(last)},
            "gain: earlier_horizon must be from 1 to 3, as far as the nowcaster of the earlier jumps can look; got 5",
        ),
        (
            {"nowcasters": {"short": Fixed(last)}, "horizons": [4]},
            r"gain: the nowcaster 'short' looks ahead by 3 states at most, and all horizons are longer: \[4\]. Add",
        ),
    ],
)
def test_what_does_not_fit_is_refused(maker, change, message):
    settings = {"nowcasters": {"linefit": LineFit()}, **SETTINGS, **change}

    with pytest.raises(ConfigError, match=f"^{message}"):
        gain(maker(), **settings)
