import re

import pytest
import torch
from torch import nn

from ninokit.errors import ConfigError
from ninokit.training.history import StateHistory
from ninokit.training.transfer import Transfer


@pytest.fixture
def parameters() -> dict[str, torch.Tensor]:
    return {"weight": nn.Parameter(torch.zeros(2, 3)), "bias": nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))}


def fill(history: StateHistory, parameters: dict[str, torch.Tensor], values: list[float]) -> None:
    for value in values:
        for parameter in parameters.values():
            parameter.data.fill_(value)
        history.snapshot()


def test_states_are_copies_in_order_and_in_the_parameters_dtype(parameters):
    history = StateHistory(parameters, context=3)
    fill(history, parameters, [1.0, 2.0, 3.0])
    parameters["weight"].data.fill_(9)
    assert history.full
    assert history.states["weight"].shape == (3, 2, 3)
    assert history.states["weight"][:, 0, 0].tolist() == [1, 2, 3]
    assert history.states["bias"].dtype == torch.bfloat16


def test_a_full_history_takes_no_more(parameters):
    history = StateHistory(parameters, context=2)
    fill(history, parameters, [1.0, 2.0])
    with pytest.raises(RuntimeError, match="the history is full"):
        history.snapshot()
    history.clear()
    assert len(history) == 0
    history.snapshot()
    assert len(history) == 1


def test_a_saved_history_goes_on_where_it_was(parameters):
    first = StateHistory(parameters, context=3)
    fill(first, parameters, [1.0, 2.0])
    saved = first.state_dict()
    second = StateHistory(parameters, context=3)
    assert second.mismatch(saved) == ""
    second.load_state_dict(saved)
    fill(first, parameters, [5.0])
    fill(second, parameters, [5.0])
    for name in parameters:
        assert torch.equal(first.states[name], second.states[name])


def test_a_saved_history_does_not_change_later(parameters):
    history = StateHistory(parameters, context=2)
    fill(history, parameters, [1.0, 2.0])
    saved = history.state_dict()
    history.clear()
    fill(history, parameters, [7.0])
    assert saved["states"]["weight"][:, 0, 0].tolist() == [1, 2]


def test_mismatches_are_named(parameters):
    history = StateHistory(parameters, context=2)
    fill(history, parameters, [1.0])
    saved = history.state_dict()
    other = StateHistory({**parameters, "weight": torch.zeros(4, 3)}, context=2)
    assert other.mismatch(saved) == "weight has states of shape (1, 2, 3), here (1, 4, 3)"
    assert StateHistory({"gain": torch.zeros(1)}, context=2).mismatch(saved) == "it lacks the parameter 'gain'"
    assert StateHistory(parameters, context=5).mismatch(saved) == "its context is 2, here 5"


class TestOtherDtypes:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_floating_point_states_are_rounded_and_no_others(self, dtype):
        values = torch.randn(3, 4)
        parameters = {"weight": values, "count": torch.tensor([2**24 + 1]), "phase": torch.tensor([1 / 3 + 1j])}
        history = StateHistory(parameters, context=1, dtype=dtype)
        history.snapshot()
        assert history.states["weight"].dtype == dtype
        assert torch.equal(history.states["weight"][0], values.to(dtype))
        assert torch.equal(history.states["count"][0], parameters["count"])
        assert torch.equal(history.states["phase"][0], parameters["phase"])

    @pytest.mark.parametrize("saved_in", [None, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("loaded_in", [None, torch.float32, torch.float16])
    def test_a_history_of_another_dtype_is_cast(self, saved_in, loaded_in):
        parameters = {"weight": torch.randn(2, 3)}
        first = StateHistory(parameters, context=3, dtype=saved_in)
        first.snapshot()
        first.snapshot()
        second = StateHistory(parameters, context=3, dtype=loaded_in)
        assert second.mismatch(first.state_dict()) == ""
        second.load_state_dict(first.state_dict())
        expected = parameters["weight"].to(saved_in or torch.float32).to(loaded_in or torch.float32)
        assert second.states["weight"].dtype == (loaded_in or torch.float32)
        assert [torch.equal(state, expected) for state in second.states["weight"][:2]] == [True, True]
        second.snapshot()
        assert second.full

    @pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, "bfloat16"])
    def test_others_are_refused(self, parameters, dtype):
        message = (
            f"history_dtype: expected one of torch.float32, torch.bfloat16, torch.float16, torch.float64, got {dtype!r}"
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            StateHistory(parameters, context=2, dtype=dtype)


class TestOtherDevices:
    def test_on_the_host_of_a_network_on_the_host(self, parameters):
        history = StateHistory(parameters, context=2, device="cpu")
        fill(history, parameters, [1.0, 2.0])
        assert history.states["weight"][:, 0, 0].tolist() == [1, 2]

    @pytest.mark.parametrize(("asked", "expected"), [("cpu", "cpu"), (None, "meta")])
    def test_on_the_host_of_a_network_elsewhere(self, monkeypatch, asked, expected):
        monkeypatch.setattr(Transfer, "copy", lambda *_: None)  # a device without memory has nothing to copy
        history = StateHistory({"weight": torch.empty(2, 3, device="meta")}, context=2, device=asked)
        history.snapshot()
        assert history.states["weight"].device.type == expected

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", torch.device("meta"), torch.device("cuda:99")])
    def test_devices_that_hold_nothing_are_refused(self, parameters, device):
        message = f"history_device: expected a device of this machine, such as 'cpu', got {str(device)!r}"
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            StateHistory(parameters, context=2, device=device)


class Lagging(Transfer):
    """Copies that arrive when they are waited for, as a GPU's may."""

    def __init__(self) -> None:
        super().__init__()
        self.outstanding = []

    def copy(self, source, target):
        target.zero_()
        self.outstanding.append((source.clone(), target))

    def wait(self):
        while self.outstanding:
            source, target = self.outstanding.pop(0)
            target.copy_(source)


class TestOutstandingCopies:
    @pytest.fixture(autouse=True)
    def _lagging(self, monkeypatch):
        monkeypatch.setattr("ninokit.training.history.Transfer", Lagging)

    def test_a_snapshot_waits_for_none(self, parameters):
        history = StateHistory(parameters, context=2)
        fill(history, parameters, [1.0])
        assert len(history._transfer.outstanding) == 2

    def test_states_are_read_once_they_are_there(self, parameters):
        history = StateHistory(parameters, context=2)
        fill(history, parameters, [1.0, 2.0])
        assert history.states["weight"][:, 0, 0].tolist() == [1, 2]

    def test_states_are_saved_once_they_are_there(self, parameters):
        history = StateHistory(parameters, context=3)
        fill(history, parameters, [1.0, 2.0])
        assert history.state_dict()["states"]["weight"][:, 0, 0].tolist() == [1, 2]

    def test_loaded_states_are_not_overwritten_by_older_ones(self, parameters):
        history = StateHistory(parameters, context=2)
        fill(history, parameters, [1.0])
        saved = history.state_dict()
        history.clear()
        fill(history, parameters, [5.0])
        history.clear()
        history.load_state_dict(saved)
        fill(history, parameters, [2.0])
        assert history.states["weight"][:, 0, 0].tolist() == [1, 2]
