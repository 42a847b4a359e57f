"""The bank: its curve, its checkpoints, and that it can go on."""

import dataclasses

import pytest
import torch

import ninokit
from ninokit.benchmarks.gain.bank import build_bank, extended, train_on
from ninokit.benchmarks.gain.checkpoint import trainable
from ninokit.benchmarks.gain.plan import GainPlan
from ninokit.benchmarks.gain.training import made
from ninokit.nowcasters import LineFit

PLAN = GainPlan(
    name="tiny",
    nowcasters={"linefit": LineFit()},
    period=40,
    times=[80, 160],
    horizons=[2],
    rates=[1.0],
    seeds=[0],
    inputs=["states", "means"],
    recovery=60,
    earlier=LineFit(),
    earlier_horizon=5,
)


def remembering(training):
    past = {}

    def remember(step):
        past[step] = {name: each.detach().clone() for name, each in trainable(training.model).items()}

    return past, remember


def test_the_curve_is_that_of_a_slow_twin(maker):
    bank = build_bank(made(maker(), 0, 1.0), PLAN, 0, earlier=False)

    training = made(maker(), 0, 1.0)
    past, remember = remembering(training)
    train_on(training, training.batches(0), range(1, 301), [remember])
    steps = list(range(50, 301, 25))  # 160 + 60 + 2 * 40 are 300
    losses = []
    training.model.eval()
    for step in steps:
        for name, parameter in trainable(training.model).items():
            window = torch.stack([past[s][name].double() for s in range(step - 49, step + 1)])
            parameter.data.copy_(window.mean(0))
        losses.append(training.validation_loss(training.model))
    assert bank.curve.steps == tuple(steps)
    assert bank.curve.losses == pytest.approx(losses, rel=1e-5)


def test_checkpoints_are_at_the_times(maker):
    training = made(maker(), 0, 1.0)
    past, remember = remembering(training)
    train_on(training, training.batches(0), range(1, 161), [remember])

    bank = build_bank(made(maker(), 0, 1.0), PLAN, 0, earlier=False)

    assert [each.snapshot.step for each in bank.checkpoints] == [80, 160]
    for checkpoint in bank.checkpoints:
        for name, value in past[checkpoint.snapshot.step].items():
            assert torch.equal(checkpoint.snapshot.tensors[name], value)
            assert torch.equal(checkpoint.states[5][name][-1], value)
            assert checkpoint.means[5][name].shape == (5, *value.shape)


def test_a_longer_curve_is_that_of_a_longer_run(noisy):
    far = dataclasses.replace(PLAN, recovery=60 + 8 * 40)  # runs as far as an extension goes at most
    long = build_bank(made(noisy, 0, 1.0), far, 0, earlier=False)
    short = build_bank(made(noisy, 0, 1.0), PLAN, 0, earlier=False)
    assert len(short.curve.steps) < len(long.curve.steps)

    longer = extended(short, made(noisy, 0, 1.0), PLAN, 0, level=0.0)

    assert longer.curve == long.curve
    assert longer.checkpoints is short.checkpoints


def test_a_curve_is_not_extended_without_need(maker):
    bank = build_bank(made(maker(), 0, 1.0), PLAN, 0, earlier=False)

    assert extended(bank, made(maker(), 0, 1.0), PLAN, 0, level=bank.curve.losses[3]) is bank
    more = extended(bank, made(maker(), 0, 1.0), PLAN, 0, level=min(bank.curve.losses) * 0.97)
    assert max(bank.curve.steps) < max(more.curve.steps) < 160 + 60 + 10 * 40


def test_earlier_jumps_are_those_of_an_attached_nowcaster(maker):
    bank = build_bank(made(maker(), 0, 1.0), PLAN, 0, earlier=True)

    training = made(maker(), 0, 1.0)
    past, remember = remembering(training)
    nowcasting = ninokit.attach(
        training.optimizer, training.model, LineFit(max_horizon=5), period=40, total_steps=1000, horizons=[5]
    )
    train_on(training, training.batches(0), range(1, 161), [remember])
    assert nowcasting.accepted == 4
    for checkpoint in bank.checkpoints:
        step = checkpoint.snapshot.step
        for name, states in checkpoint.states[5].items():
            assert torch.equal(states[:-1], torch.stack([past[step - 8 * back][name] for back in (4, 3, 2, 1)]))
            assert torch.equal(states[-1], checkpoint.snapshot.tensors[name])
            assert not torch.equal(states[-1], past[step][name])  # where the attached one has jumped
    assert bank.curve is None


def test_a_refused_earlier_jump_is_told(maker, caplog):
    class Refusing(LineFit):
        def forecast(self, graph, history, horizon):
            raise ValueError("no idea")

    plan = dataclasses.replace(PLAN, earlier=Refusing(max_horizon=5))
    jumped = build_bank(made(maker(), 0, 1.0), plan, 0, earlier=True)

    plain = build_bank(made(maker(), 0, 1.0), plan, 0, earlier=False)
    assert "step 40: the earlier jump was refused, the weights stay: no idea" in caplog.text
    for one, other in zip(jumped.checkpoints, plain.checkpoints, strict=True):
        assert all(torch.equal(one.snapshot.tensors[name], each) for name, each in other.snapshot.tensors.items())
