"""Running statistics after a jump, against a norm that keeps every batch's statistics in a list."""

from __future__ import annotations

import copy
import io
import re

import pytest
import torch
from torch import Tensor, nn

import ninokit
from ninokit.errors import ConfigError
from ninokit.training.batchnorm import Recalibration

PERIOD, TOTAL, CHANGE = 10, 60, 0.25


class SlowNorm(nn.Module):
    """BatchNorm of vectors from its definition; with `collected` a list, the mean of all that it has seen since."""

    def __init__(self, size: int, momentum: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.momentum = momentum
        self.mean, self.var = torch.zeros(size), torch.ones(size)
        self.collected: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        mean = x.sum(0) / len(x)
        squares = ((x - mean) ** 2).sum(0)
        self._remember(mean.detach(), squares.detach() / (len(x) - 1))
        return (x - mean) / (squares / len(x) + 1e-5).sqrt() * self.weight + self.bias

    def _remember(self, mean: Tensor, var: Tensor) -> None:
        if self.collected is None:
            self.mean = (1 - self.momentum) * self.mean + self.momentum * mean
            self.var = (1 - self.momentum) * self.var + self.momentum * var
        else:
            self.collected.append((mean, var))
            self.mean = sum(m for m, _ in self.collected) / len(self.collected)
            self.var = sum(v for _, v in self.collected) / len(self.collected)


def network(norm: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    # Without a bias, which the norm would take away: nothing would train it, and so it would not jump.
    return nn.Sequential(
        nn.Linear(4, 6, bias=False), norm or nn.BatchNorm1d(6, momentum=0.3), nn.Tanh(), nn.Linear(6, 1)
    )


def slow_statistics(batches, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance after every step of a training that adds CHANGE to all weights at the end of each period."""
    model = network(norm := SlowNorm(6, momentum=0.3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    seen, left = [], 0
    for step, (inputs, targets) in enumerate(batches, start=1):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        left -= 1
        if left == 0:
            norm.collected = None
        if step % PERIOD == 0 and step <= TOTAL - PERIOD:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(CHANGE)
            if steps:
                norm.collected, left = [], steps
        seen.append((norm.mean, norm.var))
    return seen


@pytest.mark.parametrize("steps", [0, 1, 3, 9, 10, 14])
def test_statistics_are_the_slow_ones_after_every_step(batches, train, scripted, steps):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    nowcasting = ninokit.attach(
        optimizer, model, scripted(CHANGE), period=PERIOD, total_steps=TOTAL, recalibrate_batchnorm=steps
    )
    for batch, (mean, var) in zip(batches, slow_statistics(batches, steps), strict=True):
        train(model, optimizer, [batch])
        torch.testing.assert_close(model[1].running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model[1].running_var, var, rtol=1e-4, atol=1e-5)
    assert nowcasting.accepted == 5
    assert model[1].momentum == (0.3 if steps <= PERIOD else None)  # the last jump is a period before the end


def test_without_being_asked_nothing_is_touched(batches, train, scripted):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    ninokit.attach(optimizer, model, scripted(), period=PERIOD, total_steps=TOTAL)
    train(model, optimizer, batches[:25])
    assert (model[1].momentum, model[1].num_batches_tracked.item()) == (0.3, 25)


def test_the_weights_do_not_depend_on_it(batches, train, scripted):
    weights = []
    for steps in (0, 7):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        ninokit.attach(optimizer, model, scripted(), period=PERIOD, total_steps=TOTAL, recalibrate_batchnorm=steps)
        train(model, optimizer, batches)
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)


def test_accumulated_batches_all_count(batches, scripted):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    ninokit.attach(optimizer, model, scripted(0.0), period=5, total_steps=60, recalibrate_batchnorm=2)
    means = []
    for index, (inputs, _) in enumerate(batches[:21], start=1):
        model(inputs).sum().backward()
        means.append(model[0](inputs).mean(0).detach())
        if index % 3 == 0:  # a jump after batch 15, two steps until batch 21
            optimizer.step()
    torch.testing.assert_close(model[1].running_mean, torch.stack(means[15:]).mean(0))
    assert model[1].momentum == 0.3


def test_a_refused_nowcast_keeps_the_statistics(batches, train, scripted):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    nan = scripted(distort=lambda name, x: [(name, x * float("nan"))])
    ninokit.attach(optimizer, model, nan, period=PERIOD, total_steps=TOTAL, recalibrate_batchnorm=5)
    train(model, optimizer, batches[:12])
    assert (model[1].momentum, model[1].num_batches_tracked.item()) == (0.3, 12)


def test_detached_in_the_middle_the_momentum_is_back(batches, train, scripted):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    nowcasting = ninokit.attach(optimizer, model, scripted(), period=PERIOD, total_steps=TOTAL, recalibrate_batchnorm=5)
    train(model, optimizer, batches[:12])
    assert model[1].momentum is None
    nowcasting.detach()
    assert model[1].momentum == 0.3
    before = model[1].running_mean.clone()
    train(model, optimizer, batches[12:13])
    seen = model[0](batches[12][0]).mean(0)
    assert not torch.equal(model[1].running_mean, before)
    assert not torch.allclose(model[1].running_mean, (2 * before + seen) / 3, rtol=1e-3)


@pytest.mark.parametrize(
    "frozen",
    [
        nn.BatchNorm1d(6).eval(),
        nn.BatchNorm1d(6, track_running_stats=False),
        nn.InstanceNorm1d(6, track_running_stats=True),
    ],
)
def test_norms_that_collect_nothing_are_left_alone(frozen):
    model = nn.ModuleList([frozen, nn.BatchNorm1d(6)])
    before = copy.deepcopy(frozen.state_dict())
    recalibration = Recalibration(model, 3)
    recalibration.start()
    assert (frozen.momentum, model[1].momentum) == (0.1, None)
    assert recalibration.state_dict() == {"left": 3, "norms": ["1"]}
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def test_a_norm_whose_running_statistics_were_switched_off():
    norm = nn.BatchNorm1d(6)
    norm.track_running_stats = False
    recalibration = Recalibration(norm, 3)
    recalibration.start()
    assert norm.momentum == 0.1
    assert recalibration.state_dict() == {"left": 0, "norms": []}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_all_kinds_and_a_second_jump_before_the_first_ones_end(kind, momentum):
    norm = kind(4, momentum=momentum)
    norm.num_batches_tracked += 8
    recalibration = Recalibration(norm, 3)
    recalibration.start()
    recalibration.count_step()
    assert norm.num_batches_tracked == 0
    norm.num_batches_tracked += 1
    recalibration.start()
    assert norm.num_batches_tracked == 0
    for _ in range(2):
        recalibration.count_step()
        assert norm.momentum is None
    recalibration.count_step()
    assert norm.momentum == momentum
    assert recalibration.state_dict() == {"left": 0, "norms": []}


def test_evaluation_in_the_middle_changes_nothing(batches, train, scripted):
    states = []
    for evaluates in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        ninokit.attach(optimizer, model, scripted(), period=PERIOD, total_steps=TOTAL, recalibrate_batchnorm=5)
        for batch in batches[:30]:
            train(model, optimizer, [batch])
            if evaluates:
                model.eval()(batches[0][0])
                model.train()
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class TestResume:
    @staticmethod
    def start(nowcaster, saved=None, order=("model", "optimizer"), steps=7):
        torch.manual_seed(1)
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        ninokit.attach(optimizer, model, nowcaster, period=PERIOD, total_steps=TOTAL, recalibrate_batchnorm=steps)
        parts = {"model": model, "optimizer": optimizer}
        for part in order if saved else ():
            parts[part].load_state_dict(saved[part])
        return model, optimizer

    @staticmethod
    def stopped(model, optimizer):
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    @pytest.mark.parametrize("order", [("model", "optimizer"), ("optimizer", "model")])
    @pytest.mark.parametrize("steps", [7, 13])
    @pytest.mark.parametrize("stop", [9, 10, 11, 16, 17, 18, 20, 25, 57])
    def test_stopped_anywhere_it_goes_on_to_the_same_bits(self, batches, train, scripted, stop, steps, order):
        whole, optimizer = self.start(scripted(), steps=steps)
        losses = train(whole, optimizer, batches)
        first, optimizer = self.start(scripted(), steps=steps)
        train(first, optimizer, batches[:stop])
        second, optimizer = self.start(scripted(), self.stopped(first, optimizer), order, steps)
        assert second[1].momentum == first[1].momentum
        assert train(second, optimizer, batches[stop:]) == losses[stop:]
        assert all(torch.equal(value, second.state_dict()[name]) for name, value in whole.state_dict().items())
        assert second[1].momentum == whole[1].momentum

    def test_back_to_an_earlier_state_in_the_same_run(self, batches, train, scripted):
        model, optimizer = self.start(scripted())
        train(model, optimizer, batches[:8])
        before = copy.deepcopy(self.stopped(model, optimizer))
        train(model, optimizer, batches[8:13])
        within = copy.deepcopy(self.stopped(model, optimizer))
        assert model[1].momentum is None
        optimizer.load_state_dict(before["optimizer"])
        assert model[1].momentum == 0.3
        for _ in range(2):  # also into a collection on its way
            optimizer.load_state_dict(within["optimizer"])
            assert model[1].momentum is None
        train(model, optimizer, batches[13:17])
        assert model[1].momentum == 0.3

    @pytest.mark.parametrize("own", [None, "older"])
    def test_a_state_without_it_ends_a_collection(self, batches, train, scripted, own):
        model, optimizer = self.start(scripted())
        train(model, optimizer, batches[:13])
        saved = optimizer.state_dict()
        saved["ninokit"].pop("batchnorm")
        if own is None:
            saved.pop("ninokit")
        optimizer.load_state_dict(saved)
        assert model[1].momentum == 0.3

    def test_a_damaged_one_is_left_out_and_said(self, batches, train, scripted, caplog):
        model, optimizer = self.start(scripted())
        train(model, optimizer, batches[:13])
        saved = optimizer.state_dict()
        saved["ninokit"]["batchnorm"].pop("norms")
        optimizer.load_state_dict(saved)
        assert caplog.messages == ["the loaded history is left out: it is damaged (KeyError: 'norms')"]
        assert model[1].momentum == 0.3

    def test_norms_that_the_model_lacks_are_said(self, caplog):
        norm = nn.BatchNorm1d(2)
        recalibration = Recalibration(nn.Sequential(norm), 3)
        recalibration.load_state_dict({"left": 2, "norms": ["0", "1"]})
        assert caplog.messages == ["loaded: the running statistics of ['1'] are no longer collected: no such BatchNorm"]
        assert norm.momentum is None
        assert recalibration.state_dict() == {"left": 2, "norms": ["0"]}


@pytest.mark.parametrize("steps", [-1, 1.5, None])
def test_bad_settings(steps):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    message = f"recalibrate_batchnorm: expected a whole number of steps from 0 up, got {steps!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ninokit.attach(optimizer, model, "linefit", total_steps=10_000, recalibrate_batchnorm=steps)
    assert "ninokit" not in optimizer.state_dict()


def test_two_trainings_of_one_norm_give_it_its_momentum_back():
    """The second took the first one's None for the norm's own."""
    norm = nn.BatchNorm1d(3)
    first, second = Recalibration(norm, steps=3), Recalibration(norm, steps=5)
    for each in (first, second, first):
        each.start()
        assert norm.momentum is None
    for each in (first, second, second):
        each.stop()
        assert norm.momentum == 0.1


def test_a_momentum_set_meanwhile_stays():
    norm = nn.BatchNorm1d(3)
    recalibration = Recalibration(norm, steps=2)
    recalibration.start()
    norm.momentum = 0.01
    for _ in range(2):
        recalibration.count_step()
    assert norm.momentum == 0.01
