"""The past states of the weights that a nowcast looks at.

Shape legend: context = states a nowcast needs; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["StateHistory"]


class StateHistory:
    """The states of the current period, each in its parameter's dtype and on its device.

    Args:
        parameters: name → parameter.
        context: number of states to hold.
    """

    def __init__(self, parameters: Mapping[str, Tensor], context: int) -> None:
        self._parameters = dict(parameters)
        self._context = context
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
                self._states[name] = parameter.new_empty((self._context, *parameter.shape))
            self._states[name][self._count].copy_(parameter)
        self._count += 1

    @torch.no_grad()
    def restore(self, names: list[str]) -> None:
        """Put parameters back to the last snapshot.

        Args:
            names: which of them.
        """
        for name in names:
            self._parameters[name].copy_(self._states[name][self._count - 1])

    def clear(self) -> None:
        """Forget the states; their memory is kept for the next period."""
        self._count = 0

    def release(self) -> None:
        """Forget the states and give their memory back."""
        self.clear()
        self._states.clear()

    def state_dict(self) -> dict[str, Any]:
        """The states taken so far, as copies: name → (count, shape…), and the context."""
        taken = {name: states[: self._count].clone() for name, states in self._states.items()} if self._count else {}
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
        """Take over the states of another history that `mismatch` has nothing against.

        Args:
            state: from `state_dict`.
        """
        self._count = state["count"]
        for name, parameter in self._parameters.items():
            if self._count:
                self._states[name] = parameter.new_empty((self._context, *parameter.shape))
                self._states[name][: self._count].copy_(state["states"][name])
