"""Snapshots are exact, and the past is what a plan would take."""

from itertools import islice

import pytest
import torch
from torch import nn

from ninokit.benchmarks.gain.bank import train_on
from ninokit.benchmarks.gain.checkpoint import ContextRecorder, Snapshot, trainable
from ninokit.benchmarks.gain.training import made
from ninokit.training.plan import NowcastPlan


def everything(training):
    tensors = [*training.model.parameters(), *training.model.buffers()]
    states = [value for state in training.optimizer.state.values() for value in state.values()]
    return [each.clone() for each in [*tensors, *states, torch.get_rng_state()]]


def test_a_restored_training_goes_on_bit_for_bit(noisy):
    training = made(noisy, seed=3, rate=1.0)
    stream = training.batches(3)
    train_on(training, stream, range(40), [])
    snapshot = Snapshot.of(training, 40)
    train_on(training, stream, range(30), [])
    expected = everything(training)

    for other in (training, made(noisy, seed=8, rate=1.0)):  # the same one again, and one that is new
        snapshot.restore(other)
        train_on(other, islice(other.batches(3), 40, None), range(30), [])
        assert all(map(torch.equal, everything(other), expected))


def test_what_no_state_dict_has_is_restored_too(maker):
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(3, 1)
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    training = made(maker(Counting), seed=0, rate=1.0)
    train_on(training, training.batches(0), range(3), [])
    snapshot = Snapshot.of(training, 3)
    train_on(training, training.batches(0), range(5), [])
    snapshot.restore(training)

    assert training.model.calls == 3


@pytest.mark.parametrize(("period", "context"), [(20, 5), (13, 5), (12, 3), (7, 7)])
def test_states_and_means_are_those_of_a_slow_twin(maker, period, context):
    training = made(maker(), seed=0, rate=1.0)
    parameters = trainable(training.model)
    recorder = ContextRecorder(parameters, period, context)
    past = {0: None}

    def remember(step):
        past[step] = {name: each.detach().double().clone() for name, each in parameters.items()}

    end = 3 * period
    train_on(training, training.batches(0), range(1, end + 1), [remember, recorder.after_step])

    plan = NowcastPlan(period, context, end, horizons=[1], in_last_period=True)
    at = [step for step in range(end - period + 1, end + 1) if plan.is_snapshot(step)]
    assert len(at) == context
    for name in parameters:
        assert torch.equal(recorder.states[name].double(), torch.stack([past[step][name] for step in at]))
        windows = [range(step - period // context + 1, step + 1) for step in at]
        means = torch.stack([torch.stack([past[step][name] for step in window]).mean(0) for window in windows])
        torch.testing.assert_close(recorder.means[name].double(), means, rtol=1e-6, atol=1e-7)


def test_frozen_parameters_are_not_recorded(maker):
    training = made(maker(), seed=0, rate=1.0)
    training.model[0].bias.requires_grad_(False)

    assert list(trainable(training.model)) == ["0.weight", "2.weight", "2.bias"]


def test_rates_multiply_every_group(maker):
    def two_groups(seed):
        training = maker()(seed)
        training.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.5})
        return training

    assert [group["lr"] for group in made(two_groups, 0, 2.0).optimizer.param_groups] == [2e-3, 1.0]
