"""The past states of the weights that a nowcast looks at.

Shape legend: context = states a nowcast needs; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ninokit.errors import ConfigError
from ninokit.training.transfer import Transfer

__all__ = ["StateHistory", "holds_all_bits"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class StateHistory:
    """The states of the current period.

    States on the host of parameters on CUDA are copied there while the training goes on; whatever reads them waits.

    Args:
        parameters: name → parameter.
        context: number of states to hold.
        dtype: of the states of floating-point parameters; left out, each parameter's own.
        device: of the states; left out, each parameter's own.

    Raises:
        ConfigError: if dtype or device can't hold states.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        context: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if dtype is not None and dtype not in _DTYPES:
            raise ConfigError(f"history_dtype: expected one of {', '.join(map(str, _DTYPES))}, got {dtype!r}")
        self._parameters = dict(parameters)
        self._context = context
        self._dtype = dtype
        self._device = None if device is None else _usable(device)
        self._transfer = Transfer()
        self._states: dict[str, Tensor] = {}  # allocated at the first snapshot; name → (context, shape…)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether all states of the period are there."""
        return self._count == self._context

    @property
    def states(self) -> Mapping[str, Tensor]:
        """Name → (context, shape…), oldest first; all of it valid once the history is full."""
        self._transfer.wait()
        return self._states

    @torch.no_grad()
    def snapshot(self) -> None:
        """Copy the parameters as they are now.

        Raises:
            RuntimeError: if the history is full.
        """
        if self.full:
            raise RuntimeError("the history is full; clear it before the next period's first snapshot")
        for name, parameter in self._parameters.items():
            if name not in self._states:
                self._states[name] = self._allocate(parameter)
            self._transfer.copy(parameter, self._states[name][self._count])
        self._count += 1

    def clear(self) -> None:
        """Forget the states; their memory is kept for the next period."""
        self._count = 0

    def release(self) -> None:
        """Forget the states and give their memory back."""
        self.clear()
        self._states.clear()

    def state_dict(self) -> dict[str, Any]:
        """The states taken so far, as copies: name → (count, shape…), and the context."""
        taken = {name: states[: self._count].clone() for name, states in self.states.items()} if self._count else {}
        return {"context": self._context, "count": self._count, "states": taken}

    def mismatch(self, state: Mapping[str, Any]) -> str:
        """Why a state of `state_dict` can't be loaded; empty if it can.

        Args:
            state: from `state_dict`, perhaps of another network or setting.

        Raises:
            KeyError, TypeError, AttributeError: if it is no such state at all.
        """
        if state["context"] != self._context:
            return f"its context is {state['context']}, here {self._context}"
        for name, parameter in self._parameters.items() if state["count"] else ():
            if name not in state["states"]:
                return f"it lacks the parameter {name!r}"
            expected, found = (state["count"], *parameter.shape), tuple(state["states"][name].shape)
            if found != expected:
                return f"{name} has states of shape {found}, here {expected}"
        return ""

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the states of another history that `mismatch` has nothing against, cast to this one's dtype.

        Args:
            state: from `state_dict`, perhaps of another dtype or device.
        """
        self._count = state["count"]
        for name, parameter in self._parameters.items():
            if self._count:
                self._states[name] = self._allocate(parameter)
                self._states[name][: self._count].copy_(state["states"][name])

    def _allocate(self, parameter: Tensor) -> Tensor:
        dtype = parameter.dtype if self._dtype is None or not parameter.is_floating_point() else self._dtype
        shape = (self._context, *parameter.shape)
        with torch.inference_mode(False):  # in which a state may be loaded, but is not taken
            return self._transfer.allocate(parameter, shape, dtype, self._device or parameter.device)


def holds_all_bits(states: Tensor, parameter: Tensor) -> bool:
    """Whether states are in a dtype that holds every value of their parameter.

    Args:
        states: of any shape.
        parameter: of any shape.

    Returns:
        False if taking a state may have rounded it.

    Example:
        >>> holds_all_bits(torch.zeros(5, 2, dtype=torch.bfloat16), torch.zeros(2))
        False
    """
    return torch.promote_types(parameter.dtype, states.dtype) == states.dtype


def _usable(device: torch.device | str) -> torch.device:
    """A device that tensors can be put on and read from, found out now and not in the middle of the training."""
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # every backend has its own
        raise ConfigError(
            f"history_device: expected a device of this machine, such as 'cpu', got {str(device)!r}"
        ) from error
    return torch.device(device)
