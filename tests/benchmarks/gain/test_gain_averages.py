"""Exact means, and the loss at averaged weights."""

import numpy as np
import pytest
import torch
from torch import nn

from ninokit.benchmarks.gain.averages import BoxAverage, averaged_loss
from ninokit.benchmarks.gain.bank import calibration_batches, train_on
from ninokit.benchmarks.gain.training import made


@pytest.mark.parametrize(("block", "blocks"), [(1, 1), (5, 1), (5, 2), (4, 3)])
def test_box_average_is_that_of_a_slow_twin(block, blocks):
    values = np.random.default_rng(0).normal(size=(40, 6))
    weight = torch.zeros(6)
    box = BoxAverage({"w": weight}, block, blocks)
    for count, value in enumerate(values, start=1):
        weight.copy_(torch.from_numpy(value))
        box.add()
        assert box.full == (count % block == 0 and count >= block * blocks)
        if box.full:
            expected = values[count - block * blocks : count].mean(0)
            np.testing.assert_allclose(box.means()["w"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_narrow_weights_are_summed_in_float32():
    weight = torch.ones(1, dtype=torch.bfloat16)
    box = BoxAverage({"w": weight}, 1000)
    for _ in range(1000):  # a bfloat16 sum of ones stops at 256
        box.add()
    assert torch.equal(box.means()["w"], torch.ones(1))


def test_the_averaged_loss_leaves_all_as_it_was(noisy):
    training = made(noisy, seed=0, rate=1.0)
    model = training.model
    train_on(training, training.batches(0), range(10), [])
    model[1].eval()
    before = [each.clone() for each in (*model.parameters(), *model.buffers(), torch.get_rng_state())]

    averaged_loss(training, {"4.bias": torch.full((1,), 9.0)}, calibration_batches(training, 0))

    after = [*model.parameters(), *model.buffers(), torch.get_rng_state()]
    assert all(map(torch.equal, before, after))
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model[1].momentum == 0.1


def test_the_averaged_loss_comes_back_from_an_error(noisy):
    training = made(noisy, seed=0, rate=1.0)
    before = [each.clone() for each in training.model.state_dict().values()]

    with pytest.raises(RuntimeError, match="broadcast"):
        averaged_loss(training, {"0.bias": torch.ones(8), "4.bias": torch.ones(3)}, [])

    assert all(map(torch.equal, before, training.model.state_dict().values()))


def test_batchnorm_takes_its_statistics_at_the_averaged_weights(maker):
    def network():
        return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))

    training = made(maker(network), seed=0, rate=1.0)
    norm, line = training.model
    norm.running_mean.fill_(50.0)  # stale
    calibration = calibration_batches(training, 0)
    weight = torch.tensor([[1.0, 2.0, 3.0]])

    found = averaged_loss(training, {"1.weight": weight}, calibration)

    inputs = torch.stack([x for x, _ in calibration]).double()  # shape: (10, 16, 3)
    assert inputs.shape == (10, 16, 3)
    mean, variance = inputs.mean((0, 1)), inputs.var(1, correction=1).mean(0)
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(77))
    y = (x[:, :1] * x[:, 1:2]).sin() + x[:, 2:]
    outputs = (x - mean) / (variance + norm.eps).sqrt() @ weight.double().T + line.bias.detach()
    assert found == pytest.approx((outputs - y).square().mean().item(), rel=1e-5)


def test_the_calibration_is_of_other_batches_than_the_run(maker):
    training = made(maker(), seed=0, rate=1.0)
    first, _ = next(training.batches(0))

    calibration = calibration_batches(training, 0)

    assert len(calibration) == 10
    assert not any(torch.equal(x, first) for x, _ in calibration)
    assert torch.equal(calibration[3][0], calibration_batches(training, 0)[3][0])
