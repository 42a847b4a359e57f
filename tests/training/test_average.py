"""The average of the weights: what it is, when it starts anew, and that it is swapped in and out exactly."""

import copy
import io
import logging
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ninokit
from ninokit.errors import ConfigError
from ninokit.training.average import RunningAverage
from ninokit.training.batchnorm import recollect_statistics


def averaged_weights(nowcasting: ninokit.Nowcasting, model: nn.Module) -> dict[str, torch.Tensor]:
    with nowcasting.averaged():
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def slow_average(values: list[float], window: int) -> float:
    """The mean as its definition says: all weights of the sum, in float64."""
    shares = [max(1 / (index + 1), 2 / (window + 1)) for index in range(len(values))]
    kept = np.cumprod([1.0] + [1 - share for share in shares[:0:-1]])[::-1]
    return float(np.dot(kept * np.array(shares), values))


class TestMean:
    @settings(deadline=None, max_examples=30)
    @given(window=st.integers(1, 12), values=st.lists(st.floats(-10, 10), min_size=1, max_size=30))
    def test_it_is_the_sum_that_its_definition_says(self, window, values):
        weight = torch.zeros(1, dtype=torch.float64)
        average = RunningAverage(window, recovery=0)
        for value in values:
            weight.fill_(value)
            average.update({"weight": weight})
        assert average.means["weight"].item() == pytest.approx(slow_average(values, window), abs=1e-9)

    @pytest.mark.parametrize("window", [10, 200])
    def test_its_age_and_noise_are_those_of_a_mean_over_the_window(self, window):
        # Its weights on the past, found by averaging a one that lies so many steps back.
        past = 20 * window
        weights = np.array(
            [slow_average([0.0] * age + [1.0] + [0.0] * (past - age - 1), window) for age in range(past)]
        )
        age = np.arange(past)[::-1]
        assert weights.sum() == pytest.approx(1)
        assert weights @ age == pytest.approx((window - 1) / 2, rel=1e-3)
        assert weights @ weights == pytest.approx(1 / window, rel=1e-3)

    def test_until_half_of_the_window_it_is_a_plain_mean(self, network, batches, train):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        seen = []
        optimizer.register_step_post_hook(lambda *_: seen.append(network[0].weight.detach().clone()))
        nowcasting = ninokit.attach(optimizer, network, None, average=60)
        train(network, optimizer, batches[:30])
        torch.testing.assert_close(averaged_weights(nowcasting, network)["0.weight"], torch.stack(seen).mean(0))

    def test_weights_of_half_precision_are_averaged_in_float32(self):
        weight = torch.ones(1, dtype=torch.bfloat16)
        average = RunningAverage(window=1000, recovery=0)
        for step in range(100):
            weight.fill_(1.0 if step % 2 else 1.0078125)  # two neighbours in bfloat16
            average.update({"weight": weight})
        assert average.means["weight"].dtype == torch.float32
        assert average.means["weight"].item() == pytest.approx(1.00390625, abs=1e-6)

    def test_what_is_frozen_takes_no_memory_and_stays(self, network, batches, train):
        network[0].requires_grad_(False)
        before = network[0].weight.detach().clone()
        optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, None, average=10)
        train(network, optimizer, batches[:5])
        assert set(nowcasting._average.means) == {"2.weight", "2.bias"}
        assert torch.equal(averaged_weights(nowcasting, network)["0.weight"], before)

    def test_what_is_trained_later_joins_with_the_weights_it_had(self, network, batches, train):
        network[0].requires_grad_(False)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, None, average=100)
        train(network, optimizer, batches[:3])
        network[0].requires_grad_(True)
        train(network, optimizer, batches[3:4])
        assert torch.equal(averaged_weights(nowcasting, network)["0.weight"], network[0].weight)


class TestJumps:
    def test_it_starts_anew_after_the_recovery(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        seen = []
        optimizer.register_step_post_hook(lambda *_: seen.append(network[0].weight.detach().clone()))
        nowcasting = ninokit.attach(optimizer, network, scripted(), total_steps=60, period=20, average=1000, recovery=4)
        train(network, optimizer, batches[:20])
        before = averaged_weights(nowcasting, network)["0.weight"]
        torch.testing.assert_close(before, torch.stack(seen[:20]).mean(0))
        train(network, optimizer, batches[20:24])
        assert torch.equal(averaged_weights(nowcasting, network)["0.weight"], before)
        train(network, optimizer, batches[24:31])
        torch.testing.assert_close(averaged_weights(nowcasting, network)["0.weight"], torch.stack(seen[24:31]).mean(0))

    def test_a_refused_jump_leaves_it_alone(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        seen = []
        optimizer.register_step_post_hook(lambda *_: seen.append(network[0].weight.detach().clone()))
        nowcasting = ninokit.attach(
            optimizer, network, scripted(change=torch.nan), total_steps=60, period=20, average=1000
        )
        train(network, optimizer, batches[:30])
        assert [event.accepted for event in nowcasting.events] == [False]
        torch.testing.assert_close(averaged_weights(nowcasting, network)["0.weight"], torch.stack(seen).mean(0))

    @pytest.mark.parametrize(("average", "first"), [(0, 5), (3, 8), (100, 10)])
    def test_when_a_loop_may_judge(self, network, batches, train, scripted, average, first):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), total_steps=60, period=20, average=average)
        assert nowcasting.recovery == 5
        found = []
        for index in range(40):
            train(network, optimizer, batches[index : index + 1])
            found.append((nowcasting.steps_since_jump, nowcasting.settled))
        assert [steps for steps, _ in found] == [*range(1, 20), *range(20), 0]
        assert [settled for _, settled in found] == [True] * 19 + [steps >= first for steps in range(20)] + [False]

    def test_without_a_nowcaster_nothing_jumps(self, network, batches, train):
        plain = copy.deepcopy(network)
        train(plain, torch.optim.Adam(plain.parameters(), lr=0.01), batches)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, None, average=10)
        train(network, optimizer, batches)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), network.parameters(), strict=True))
        assert (nowcasting.events, nowcasting.steps, nowcasting.settled) == ([], 60, True)


class Odd(nn.Module):
    """A BatchNorm, dropout, a tied weight and a buffer that every forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.second(self.dropout(self.norm(self.first(inputs))))[:, :1]


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestSwap:
    def attached(self, batches, train, dtype=torch.float32):
        torch.manual_seed(0)
        model = Odd().to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, model, None, average=10)
        batches = [(x.to(dtype), y.to(dtype)) for x, y in batches]
        train(model, optimizer, batches[:8])
        return model, optimizer, nowcasting, [x for x, _ in batches]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_weights_and_buffers_come_back_bit_for_bit(self, batches, train, dtype):
        model, _, nowcasting, inputs = self.attached(batches, train, dtype)
        before, state, random = bits(model), torch.get_rng_state(), [p.data_ptr() for p in model.parameters()]
        model.norm.eval()  # a norm that is kept as it is; the others are trained
        with nowcasting.averaged(inputs[:3]):
            assert not torch.equal(model.first.weight, before["first.weight"])
            assert model.first.weight is model.second.weight
        assert equal(bits(model), before)
        assert torch.equal(torch.get_rng_state(), state)
        assert [p.data_ptr() for p in model.parameters()] == random
        assert (model.training, model.norm.training, model.norm.momentum) == (True, False, 0.1)

    def test_after_an_error_too(self, batches, train):
        model, _, nowcasting, inputs = self.attached(batches, train)
        before = bits(model)
        with pytest.raises(ValueError, match="mine"), nowcasting.averaged(inputs[:3]):
            raise ValueError("mine")
        with pytest.raises(RuntimeError), nowcasting.averaged([torch.zeros(2, 3)]):  # of a wrong shape
            pass
        assert equal(bits(model), before)
        assert (model.norm.momentum, model.norm.training) == (0.1, True)
        with nowcasting.averaged():
            pass

    def test_statistics_are_collected_at_the_averaged_weights(self, batches, train):
        model, _, nowcasting, inputs = self.attached(batches, train)
        means = nowcasting.averaged_state_dict()
        features = [x @ means["first.weight"].T + means["first.bias"] for x in inputs[:3]]
        with nowcasting.averaged(inputs[:3]):
            torch.testing.assert_close(model.norm.running_mean, torch.stack(features).mean((0, 1)))
            variances = torch.stack([f.var(0) for f in features]).mean(0)
            torch.testing.assert_close(model.norm.running_var, variances)

    def test_left_out_the_statistics_are_kept(self, batches, train):
        model, _, nowcasting, _ = self.attached(batches, train)
        before = model.norm.running_mean.clone()
        with nowcasting.averaged():
            assert torch.equal(model.norm.running_mean, before)

    def test_no_batch_keeps_the_statistics(self):
        norm = nn.BatchNorm1d(2)
        norm(torch.randn(5, 2))
        before = bits(norm)
        recollect_statistics(norm, [])
        assert equal(bits(norm), before)

    def test_norms_that_the_network_holds_in_evaluation_mode_are_kept(self):
        class Frozen(nn.Sequential):
            def train(self, mode: bool = True):
                super().train(mode)
                self[0].eval()
                return self

        model = Frozen(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
        model[0].running_mean.fill_(3.0)
        before = bits(model[0])
        recollect_statistics(model, [torch.randn(5, 2)])
        assert equal(bits(model[0]), before)
        assert model[1].num_batches_tracked == 1

    @pytest.mark.parametrize("inputs", [{"input": torch.ones(4, 2)}, (torch.ones(4, 2),), torch.ones(4, 2)])
    def test_batches_of_every_kind(self, inputs):
        norm = nn.BatchNorm1d(2)
        recollect_statistics(norm, [inputs])
        assert torch.equal(norm.running_mean, torch.ones(2))

    def test_the_training_goes_on_as_if_nobody_had_looked(self, batches, train):
        results = []
        for looks in (False, True):
            model, optimizer, nowcasting, inputs = self.attached(batches, train)
            if looks:
                with nowcasting.averaged(inputs[:3]), torch.no_grad():
                    model.eval()
                    model(inputs[0])
                    model.train()
            train(model, optimizer, batches[8:20])
            results.append((bits(model), averaged_weights(nowcasting, model)))
        assert equal(results[0][0], results[1][0])
        assert equal(results[0][1], results[1][1])

    def test_the_state_to_ship(self, batches, train):
        model, optimizer, nowcasting, _ = self.attached(batches, train)
        shipped = nowcasting.averaged_state_dict()
        assert shipped["first.weight"].data_ptr() == shipped["second.weight"].data_ptr()  # still tied
        assert equal(averaged_weights(nowcasting, model), shipped)
        train(model, optimizer, batches[8:9])
        assert not equal(averaged_weights(nowcasting, model), shipped)
        fresh = Odd()
        fresh.load_state_dict(shipped)

    def test_before_the_first_step_they_are_the_weights(self, network):
        nowcasting = ninokit.attach(torch.optim.SGD(network.parameters()), network, None, average=3)
        assert equal(averaged_weights(nowcasting, network), bits(network))

    def test_a_step_inside_is_refused(self, batches, train):
        _, optimizer, nowcasting, _ = self.attached(batches, train)
        message = "optimizer.step() inside averaged(): the weights are the averaged ones there, and what the step does "
        with nowcasting.averaged(), pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
            optimizer.step()
        optimizer.step()
        assert nowcasting.steps == 9

    def test_twice_at_once_is_refused(self, batches, train):
        _, _, nowcasting, _ = self.attached(batches, train)
        message = "averaged: the averaged weights are in place already; leave that context first"
        with nowcasting.averaged(), pytest.raises(ConfigError, match=message), nowcasting.averaged():
            pass

    def test_without_an_average(self, network, scripted):
        nowcasting = ninokit.attach(torch.optim.SGD(network.parameters()), network, scripted(), total_steps=10_000)
        message = r"averaged: no average is kept; give attach\(average=…\) a number of steps"
        with pytest.raises(ConfigError, match=message):
            nowcasting.averaged_state_dict()


class TestResume:
    @pytest.mark.parametrize("stop", [3, 20, 22, 27, 45])
    def test_stopped_anywhere_it_goes_on_to_the_same_bits(self, network, batches, train, scripted, stop):
        start = copy.deepcopy(network)

        def begin():
            model = copy.deepcopy(start)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            nowcasting = ninokit.attach(optimizer, model, scripted(), total_steps=60, period=20, average=8)
            return model, optimizer, nowcasting

        model, optimizer, nowcasting = begin()
        train(model, optimizer, batches[:stop])
        file = io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict()), file)
        train(model, optimizer, batches[stop:])
        file.seek(0)
        resumed, resumed_optimizer, resumed_nowcasting = begin()
        weights, state = torch.load(file, weights_only=True)
        resumed.load_state_dict(weights)
        resumed_optimizer.load_state_dict(state)
        train(resumed, resumed_optimizer, batches[stop:])
        assert equal(averaged_weights(nowcasting, model), averaged_weights(resumed_nowcasting, resumed))
        assert resumed_nowcasting.steps_since_jump == nowcasting.steps_since_jump

    def test_within_a_recovery_it_goes_on_with_what_is_left_of_it(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), total_steps=60, period=20, average=8)
        train(network, optimizer, batches[:22])
        saved = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
        expected = []
        for index in range(22, 30):
            train(network, optimizer, batches[index : index + 1])
            expected.append(averaged_weights(nowcasting, network))
        network.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        for index in range(22, 30):
            train(network, optimizer, batches[index : index + 1])
            assert equal(averaged_weights(nowcasting, network), expected[index - 22])

    def test_what_is_saved_is_a_copy(self, network, batches, train):
        state = self.saved(network, batches, train)
        before = copy.deepcopy(state["ninokit"]["average"]["means"])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, None, average=8)
        optimizer.load_state_dict(state)
        again = optimizer.state_dict()["ninokit"]["average"]["means"]
        train(network, optimizer, batches[:5])
        assert nowcasting.steps == 10
        assert equal(state["ninokit"]["average"]["means"], before)
        assert equal(again, before)

    def saved(self, network, batches, train):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        ninokit.attach(optimizer, network, None, average=8)
        train(network, optimizer, batches[:5])
        return optimizer.state_dict()

    @pytest.mark.parametrize(
        ("damage", "fault"),
        [
            (lambda average: average.pop("means"), "KeyError: 'means'"),
            (lambda average: average.update(steps=None), "TypeError: "),
            (
                lambda average: average["means"].update({"0.weight": torch.zeros(3)}),
                "ValueError: no parameter '0.weight' of shape (3,) is here",
            ),
        ],
    )
    def test_a_damaged_one_starts_anew_and_is_said(self, network, batches, train, caplog, damage, fault):
        state = self.saved(network, batches, train)
        damage(state["ninokit"]["average"])
        other = copy.deepcopy(network)
        optimizer = torch.optim.Adam(other.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, other, None, average=8)
        train(other, optimizer, batches[:2])
        with caplog.at_level(logging.WARNING):
            optimizer.load_state_dict(state)
        assert caplog.messages[0].startswith(f"the loaded average is left out, and starts anew: {fault}")
        assert equal(averaged_weights(nowcasting, other), bits(other))

    def test_a_state_without_one_starts_anew(self, network, batches, train, caplog):
        plain = torch.optim.Adam(network.parameters(), lr=0.01)
        train(network, plain, batches[:5])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, None, average=8)
        with caplog.at_level(logging.INFO, logger="ninokit"):
            optimizer.load_state_dict(plain.state_dict())
        assert "the loaded state has no average; it starts anew" in caplog.messages
        assert nowcasting.steps == 5

    def test_of_a_nowcasting_goes_on_alone(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        first = ninokit.attach(optimizer, network, scripted(), total_steps=60, period=20, average=8)
        train(network, optimizer, batches[:33])
        state, expected = copy.deepcopy(optimizer.state_dict()), averaged_weights(first, network)
        first.detach()
        nowcasting = ninokit.attach(optimizer, network, None, average=8)
        with caplog.at_level(logging.WARNING):
            optimizer.load_state_dict(state)
        assert equal(averaged_weights(nowcasting, network), expected)
        assert (caplog.messages, nowcasting.steps) == ([], 33)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"average": -1}, "average: expected a whole number of steps from 0 up, got -1"),
        ({"average": 2.5}, "average: expected a whole number of steps from 0 up, got 2.5"),
        ({"recovery": -1}, "recovery: expected a whole number of steps from 0 up, got -1"),
        (
            {"nowcaster": None},
            "nowcaster: got None, and average=0, so that nothing is left to do; give one of the two",
        ),
        (
            {"total_steps": None},
            "total_steps: the horizons shrink towards the end of the training; give its optimizer steps",
        ),
    ],
)
def test_bad_settings(network, scripted, given, message):
    settings = {"nowcaster": scripted(), "total_steps": 10_000} | given
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ninokit.attach(torch.optim.SGD(network.parameters()), network, **settings)
