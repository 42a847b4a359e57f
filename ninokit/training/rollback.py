"""Undoing the writes of a nowcast that fails half-way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ninokit.training.history import holds_all_bits

__all__ = ["Rollback"]


class Rollback:
    """A context in which parameters are written; if it ends with an error, they get their bits back.

    Args:
        parameters: name → parameter, unwritten since the last state was taken.
        states: name → (states, shape…), the parameters' past states, the last of them as they are now.

    Example:
        >>> weight = torch.ones(1)
        >>> with Rollback({"weight": weight}, {"weight": torch.ones(5, 1)}) as rollback:
        ...     _ = rollback.keep("weight")
        ...     _ = weight.fill_(7.0)
        ...     raise ValueError("no more predictions")
        Traceback (most recent call last):
        ValueError: no more predictions
        >>> weight
        tensor([1.])
    """

    def __init__(self, parameters: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._states = states
        self._kept: dict[str, Tensor] = {}

    @property
    def names(self) -> set[str]:
        """The parameters that would be put back."""
        return set(self._kept)

    def keep(self, name: str) -> Tensor:
        """Remember a parameter's values; to be called before it is written.

        Args:
            name: of the parameter.

        Returns:
            The values as they were before the first write.
        """
        if name not in self._kept:
            parameter, last = self._parameters[name], self._states[name][-1]
            # A copy goes where the states are, as that is where the user has room.
            exact = holds_all_bits(last, parameter)
            self._kept[name] = last if exact else parameter.detach().to(last.device, copy=True)
        return self._kept[name]

    def __enter__(self) -> Rollback:
        return self

    @torch.no_grad()
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for name, values in self._kept.items():
                self._parameters[name].copy_(values)
        self._kept.clear()
