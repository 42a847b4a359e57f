"""The running statistics of BatchNorm after a jump: collected anew from the next batches.

A jump moves the weights, and with them what every BatchNorm sees; its running mean and variance are still those of
the weights before it, and forget them at the pace of its momentum. In training mode a BatchNorm normalises with the
batch's own statistics, so that nothing but evaluation looks at the old ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ninokit.calls import call

__all__ = ["Recalibration", "recollect_statistics"]

_log = logging.getLogger(__name__)


# A norm that collects → its own momentum, whoever has it collect: two trainings may share one.
_OWN_MOMENTUM: MutableMapping[_BatchNorm, float | None] = WeakKeyDictionary()


class Recalibration:
    """Cumulative means in place of running ones, for some optimizer steps after each jump.

    A BatchNorm whose momentum is None takes the mean over all batches since its count of them was zero; so the first
    batch after a jump overwrites the old statistics. At the end the momentum is as before; the count goes on from the
    jump. Left alone are the norms that collect nothing: in evaluation mode, or without running statistics.

    Args:
        model: the network; its norms are looked up at every jump.
        steps: optimizer steps after a jump, each with its batches; 0 keeps the running statistics.

    Example:
        >>> import torch
        >>> norm = torch.nn.BatchNorm1d(1)
        >>> recalibration = Recalibration(norm, steps=2)
        >>> recalibration.start()
        >>> for batch in ([[1.0], [3.0]], [[5.0], [7.0]]):
        ...     _ = norm(torch.tensor(batch))
        ...     recalibration.count_step()
        >>> norm.running_mean, norm.momentum
        (tensor([4.]), 0.1)
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        self._model = model
        self._steps = steps
        self._left = 0  # of those steps
        self._collecting: dict[str, _BatchNorm] = {}

    def start(self) -> None:
        """Collect anew from now on, also where an earlier jump's collection is still on its way."""
        self.stop()
        for name, norm in self._norms().items() if self._steps else ():
            if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()
                self._collect(name, norm)
                self._left = self._steps

    def count_step(self) -> None:
        """Take note of an optimizer step; the last one of a collection ends it."""
        if self._left:
            self._left -= 1
            if not self._left:
                self.stop()

    def stop(self) -> None:
        """Give every norm its momentum back, unless it has got another one; the statistics stay as they are."""
        for norm in self._collecting.values():
            momentum = _OWN_MOMENTUM.pop(norm, None)
            if norm.momentum is None:
                norm.momentum = momentum
        self._collecting.clear()
        self._left = 0

    def state_dict(self) -> dict[str, Any]:
        """The steps left and the names of the collecting norms; the statistics and counts are in the model's state."""
        return {"left": self._left, "norms": list(self._collecting)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as another one was going on when its state was saved.

        Args:
            state: from `state_dict`.

        Raises:
            KeyError, TypeError, ValueError: if it is no such state; nothing is collected then.
        """
        self.stop()
        left, names, norms = int(state["left"]), list(state["norms"]), self._norms()
        if missing := [name for name in names if name not in norms]:
            _log.warning("loaded: the running statistics of %s are no longer collected: no such BatchNorm", missing)
        for name in norms.keys() & set(names):
            self._collect(name, norms[name])
        self._left = left if self._collecting else 0

    def _collect(self, name: str, norm: _BatchNorm) -> None:
        _OWN_MOMENTUM.setdefault(norm, norm.momentum)
        self._collecting[name] = norm
        norm.momentum = None

    def _norms(self) -> dict[str, _BatchNorm]:
        return {name: module for name, module in self._model.named_modules() if isinstance(module, _BatchNorm)}


@torch.no_grad()
def recollect_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    """Take the running statistics of every BatchNorm anew, as their mean over some batches.

    The network runs in training mode; its modes, the norms' momenta and torch's random state are as before afterwards.

    Args:
        model: the network; its buffers are written.
        batches: of inputs, each as the network is called with: a tensor, a tuple of arguments, or a dictionary. Of
            none the statistics stay.

    Raises:
        Exception: what the network or the batches raise.

    Source: `torch.optim.swa_utils.update_bn`, which takes no dictionaries and keeps the momenta after an error.
    """
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in modes if isinstance(norm, _BatchNorm)}
    devices = {tensor.device for tensor in model.parameters() if tensor.device.type == "cuda"}
    model.train()
    collecting = [norm for norm in momenta if norm.training and norm.track_running_stats]
    try:
        with torch.random.fork_rng(devices=sorted(devices, key=str)):
            for index, batch in enumerate(batches):
                for norm in collecting if index == 0 else ():
                    norm.reset_running_stats()
                    norm.momentum = None  # all batches since then count alike
                call(model, batch)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
