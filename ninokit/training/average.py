"""The average of the weights over the last steps: what to score and to ship.

The mean over a window of W steps is kept in one copy of the weights. It is a plain mean until it covers half of a
window, then an exponential one with the factor 2 / (W + 1), whose age and noise are those of a mean over the last W
steps. After a jump it starts anew, as soon as the weights have recovered; until then it stays what it was before. With
W = 3 and weights 1, 2, 3, 4 it is 1, 1.5, 2.25, 3.125.

Shape legend: shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ninokit.errors import ConfigError
from ninokit.training.batchnorm import recollect_statistics

__all__ = ["RunningAverage", "restored"]


class RunningAverage:
    """A running mean of a network's trained weights.

    Args:
        window: steps that it spans, at least 1.
        recovery: steps after a jump that it leaves out, at least 0.

    Example:
        >>> weight = torch.zeros(1)
        >>> average = RunningAverage(window=3, recovery=0)
        >>> for value in (1.0, 2.0, 3.0, 4.0):
        ...     _ = weight.fill_(value)
        ...     average.update({"weight": weight})
        >>> average.means["weight"]
        tensor([3.1250])
    """

    def __init__(self, window: int, recovery: int) -> None:
        self.window = window
        self.means: dict[str, Tensor] = {}  # name → (shape…), float32 or wider
        self.is_swapped_in = False
        self._recovery = recovery
        self._steps = 0  # that the mean covers; 0 right after a jump, when the means are still those before it
        self._left_out = 0  # steps still to leave out

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor]) -> None:
        """Take the weights after a step into account.

        Args:
            parameters: name → parameter, those that are trained now.
        """
        if self._left_out:
            self._left_out -= 1
            return
        self._steps += 1
        share = max(1 / self._steps, 2 / (self.window + 1))
        for name, parameter in parameters.items():
            mean = self.means.get(name)
            if mean is None or mean.device != parameter.device:
                # One that was frozen until now has been constant, so that its mean is what it is.
                self.means[name] = _widened(parameter, copy=True)
            elif self._steps == 1:
                mean.copy_(parameter)
            else:
                mean.lerp_(_widened(parameter).to(mean.dtype), share)

    def restart(self) -> None:
        """Start anew after the recovery from a jump that has just been made."""
        self._steps, self._left_out = 0, self._recovery

    def forget(self) -> None:
        """Start from nothing, as before the first step."""
        self.means, self._steps, self._left_out = {}, 0, 0

    @contextmanager
    def swapped_in(self, model: nn.Module, batches: Iterable[Any] | None) -> Iterator[None]:
        """A context in which a network has the averaged weights; its own, and its buffers, come back bit for bit.

        Args:
            model: the network, none of its wrappers.
            batches: see `Nowcasting.averaged`.

        Raises:
            ConfigError: if it has them already.
        """
        if self.is_swapped_in:
            raise ConfigError("averaged: the averaged weights are in place already; leave that context first")
        parameters = {name: parameter for name, parameter in model.named_parameters() if name in self.means}
        with restored([*parameters.values(), *model.buffers()]):
            self.is_swapped_in = True
            try:
                _write(parameters.values(), [self.means[name] for name in parameters])
                if batches is not None:
                    recollect_statistics(model, batches)
                yield
            finally:
                self.is_swapped_in = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs, as copies."""
        return {
            "steps": self._steps,
            "left_out": self._left_out,
            "means": {name: mean.clone() for name, mean in self.means.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> None:
        """Go on as another one was going on when its state was saved.

        Args:
            state: from `state_dict`.
            parameters: name → parameter, those that may be averaged.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if it is no such state, or one of another network; nothing
                is changed then.
        """
        steps, left_out, means = int(state["steps"]), int(state["left_out"]), dict(state["means"])
        for name, mean in means.items():
            if name not in parameters or mean.shape != parameters[name].shape:
                raise ValueError(f"no parameter {name!r} of shape {tuple(mean.shape)} is here")
        self.means = {name: mean.to(parameters[name].device, copy=True) for name, mean in means.items()}
        self._steps, self._left_out = steps, left_out


@contextmanager
def restored(tensors: Sequence[Tensor]) -> Iterator[None]:
    """A context in which tensors may be written; afterwards they have their bits again, also after an error.

    Args:
        tensors: such as a network's parameters and buffers; a copy of each is kept meanwhile.

    Example:
        >>> weight = torch.ones(1)
        >>> with restored([weight]):
        ...     _ = weight.fill_(7.0)
        >>> weight
        tensor([1.])
    """
    own = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        _write(tensors, own)


def _widened(parameter: Tensor, *, copy: bool = False) -> Tensor:
    """A parameter's values in a dtype in which a mean over many steps keeps its digits."""
    with torch.inference_mode(False):
        return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=copy)


@torch.no_grad()
def _write(tensors: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
