"""AdamW for many networks at once, each with its own learning rate and weight decay.

Shapes: N networks, P parameters of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["StackedAdamW"]

# torch.optim.AdamW's own defaults, which are the baseline's.
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class StackedAdamW:
    """`torch.optim.AdamW` on every row of a matrix.

    torch's own has a learning rate a parameter group, so that N networks would take N groups and N times the launches
    of kernels.

    Args:
        parameters: a network a row, changed in place, of shape (N, P).
        lr: learning rate of each network, above 0. Length N.
        weight_decay: decoupled weight decay of each network, at least 0. Length N.

    Example:
        >>> weights = torch.ones(2, 3)
        >>> StackedAdamW(weights, lr=[0.1, 0.2], weight_decay=[0.0, 0.0]).step(torch.ones(2, 3))
        >>> weights[:, 0]
        tensor([0.9000, 0.8000])
    """

    def __init__(self, parameters: Tensor, *, lr: Sequence[float], weight_decay: Sequence[float]) -> None:
        self._parameters = parameters
        # In double precision until all is multiplied, as Python's floats are in torch's own.
        rates = torch.tensor([lr, weight_decay], dtype=torch.float64).unsqueeze(2)
        self._lr = rates[0].to(parameters)
        self._decay = (1 - rates[0] * rates[1]).to(parameters)
        self._first = torch.zeros_like(parameters)
        self._second = torch.zeros_like(parameters)
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Tensor) -> None:
        """Change the parameters (Loshchilov & Hutter 2019, algorithm 2).

        Args:
            gradients: of each network's own loss, shape (N, P).
        """
        self._steps += 1
        self._parameters.mul_(self._decay)
        self._first.lerp_(gradients, 1 - _BETA1)
        self._second.mul_(_BETA2).addcmul_(gradients, gradients, value=1 - _BETA2)
        root = (1 - _BETA2**self._steps) ** 0.5
        denominator = self._second.sqrt().div_(root).add_(_EPS)
        self._parameters.sub_(self._lr / (1 - _BETA1**self._steps) * self._first / denominator)

    def state_dict(self) -> dict[str, Tensor | int]:
        """The moments and the count of steps; the tensors are not copied."""
        return {"first": self._first, "second": self._second, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from a saved state.

        Args:
            state: of `state_dict`, for parameters of the same shape.
        """
        self._first.copy_(torch.as_tensor(state["first"]))
        self._second.copy_(torch.as_tensor(state["second"]))
        self._steps = int(state["steps"])
