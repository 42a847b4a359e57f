import copy

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

import ninokit
from ninokit.nowcasters import Nowcaster
from ninokit.training.rollback import Rollback

WIDTHS = {
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float64: torch.int64,
}
DTYPES = sorted(WIDTHS, key=str)
ELSEWHERE = 61440.0  # in all of these dtypes, and no network's weight
SHAPES = {"first": (3, 2), "second": (), "third": (4,), "fourth": (1, 5)}


class Failing(Nowcaster):
    """Predicts some parameters well, one of them twice, and then fails in a way."""

    context = 5
    max_horizon = 1
    needs_graph = False

    def __init__(self, good: int, failure: str) -> None:
        self.good = good
        self.failure = failure

    def forecast(self, graph, history, horizon):
        for index, (name, states) in enumerate(history.items()):
            prediction = torch.full(states.shape[1:], index + 0.5)
            if index == self.good:
                yield from self._fail(name, prediction)
                return
            yield name, prediction
            yield name, prediction + 1

    def _fail(self, name, prediction):
        match self.failure:
            case "error":
                raise ValueError(name)
            case "interrupt":
                raise KeyboardInterrupt
            case "not finite":
                yield name, prediction * torch.nan
            case "shape":
                yield name, prediction[None]
            case "unknown":
                yield "no such parameter", prediction
            case "no tensor":
                yield name, None
            case "missing":
                return


def bits_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().view(WIDTHS[p.dtype]) for name, p in model.named_parameters()}


@st.composite
def networks(draw) -> nn.Module:
    """Parameters of any dtypes, with any bits below float16's largest number: zeros of both signs, subnormals."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    model = nn.Module()
    for name, shape in SHAPES.items():
        dtype = draw(st.sampled_from(DTYPES))
        values = torch.from_numpy(np.asarray(generator.integers(-(2**63), 2**63 - 1, size=shape)))
        values = values.to(WIDTHS[dtype]).view(dtype)
        zero = torch.zeros((), dtype=dtype).copysign(values)
        model.register_parameter(name, nn.Parameter(torch.where(values.abs() < 6e4, values, zero)))
    return model


def train_a_period(model: nn.Module, nowcaster: Nowcaster, dtype: torch.dtype | None) -> ninokit.Nowcasting:
    """Five steps, of which the last leaves the weights as they were: what changes them is the nowcast alone."""
    optimizer = torch.optim.SGD(model.parameters())
    nowcasting = ninokit.attach(optimizer, model, nowcaster, period=5, total_steps=10, history_dtype=dtype)
    weights = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(ELSEWHERE)
    for _ in range(4):
        optimizer.step()
    model.load_state_dict(weights)
    optimizer.step()
    return nowcasting


@given(
    networks(),
    st.sampled_from([None, *DTYPES]),
    st.integers(0, len(SHAPES) - 1),
    st.sampled_from(["error", "not finite", "shape", "unknown", "no tensor", "missing", "interrupt"]),
)
def test_failed_anywhere_the_weights_have_their_bits_back(model, dtype, good, failure):
    before = bits_of(model)
    if failure == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            train_a_period(model, Failing(good, failure), dtype)
    else:
        assert train_a_period(model, Failing(good, failure), dtype).refused == 1
    after = bits_of(model)
    assert all(torch.equal(after[name], before[name]) for name in SHAPES)


@given(networks(), st.sampled_from([None, *DTYPES]))
def test_predicted_whole_the_weights_are_the_prediction(model, dtype):
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert train_a_period(model, Failing(len(SHAPES), "none"), dtype).accepted == 1
    for index, (old, new) in enumerate(zip(before, model.parameters(), strict=True)):
        if dtype is None or torch.promote_types(old.dtype, dtype) == dtype:
            assert (new == index + 1.5).all()
        else:  # what the state lost is not lost
            expected = old.double() + (index + 1.5 - old.to(dtype).double())
            assert ((new.double() - expected).abs() <= (old.double().abs() + 4) * 2**-7).all()


@pytest.mark.parametrize("parameter", DTYPES)
@pytest.mark.parametrize("history", DTYPES)
def test_only_what_the_states_lack_is_copied(parameter, history):
    exact = {
        (torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float16, torch.float64),
        (torch.bfloat16, torch.float64), (torch.float32, torch.float64),
    }  # fmt: skip
    weight, states = torch.ones(4, dtype=parameter), torch.ones(5, 4, dtype=history)

    def write_and_fail():
        with Rollback({"weight": weight}, {"weight": states}) as rollback:
            rollback.keep("weight")
            states[-1] = 2  # tells apart where the values came back from
            weight.fill_(9)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert weight.unique().tolist() == [2 if parameter == history or (parameter, history) in exact else 1]


def test_nothing_is_kept_afterwards():
    weight, states = torch.ones(4), torch.ones(5, 4).bfloat16()
    with Rollback({"weight": weight}, {"weight": states}) as rollback:
        rollback.keep("weight")
        assert rollback.names == {"weight"}
        weight.fill_(9)
    assert rollback.names == set()
    assert weight.unique().tolist() == [9]
