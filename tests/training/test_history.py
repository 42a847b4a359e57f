import pytest
import torch
from torch import nn

from ninokit.training.history import StateHistory


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


def test_restore_goes_back_to_the_last_state_for_the_named_alone(parameters):
    history = StateHistory(parameters, context=3)
    fill(history, parameters, [1.0, 2.0])
    for parameter in parameters.values():
        parameter.data.fill_(9)
    history.restore(["weight"])
    assert parameters["weight"].unique().tolist() == [2]
    assert parameters["bias"].unique().tolist() == [9]


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
