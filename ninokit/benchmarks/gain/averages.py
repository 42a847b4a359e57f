"""The exact mean of the weights over the last steps, and the validation loss there.

Shape legend: shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ninokit.benchmarks.gain.training import Training, cuda_devices
from ninokit.training.average import restored
from ninokit.training.batchnorm import Recalibration

__all__ = ["BoxAverage", "averaged_loss"]


class BoxAverage:
    """The mean over the last ``block * blocks`` steps, by the sums over blocks, so that no error adds up.

    Args:
        parameters: name → parameter; each is summed in float32 or its own wider dtype.
        block: steps a block, at least 1.
        blocks: that the mean spans, at least 1.

    Example:
        >>> weight = torch.zeros(1)
        >>> average = BoxAverage({"weight": weight}, block=1, blocks=2)
        >>> for value in (1.0, 2.0, 5.0):
        ...     _ = weight.fill_(value)
        ...     average.add()
        >>> average.full, average.means()
        (True, {'weight': tensor([3.5000])})
    """

    def __init__(self, parameters: Mapping[str, Tensor], block: int, blocks: int = 1) -> None:
        self._parameters = dict(parameters)
        self._block = block
        self._sums: deque[dict[str, Tensor]] = deque(maxlen=blocks)
        self._count = 0  # of the steps in the last block

    @property
    def full(self) -> bool:
        """Whether the last step has ended a block, and there are as many as the mean spans."""
        return self._count == self._block and len(self._sums) == self._sums.maxlen

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters as they are now into the sums."""
        if not self._sums or self._count == self._block:
            self._sums.append({name: _wide_zeros(parameter) for name, parameter in self._parameters.items()})
            self._count = 0
        for name, total in self._sums[-1].items():
            total.add_(self._parameters[name])
        self._count += 1

    def means(self) -> dict[str, Tensor]:
        """Name → mean, shape (shape…); of what has been added, if it is not full."""
        steps = self._block * (len(self._sums) - 1) + self._count
        return {name: torch.stack([block[name] for block in self._sums]).sum(0) / steps for name in self._sums[-1]}


def _wide_zeros(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))


@torch.no_grad()
def averaged_loss(training: Training, means: Mapping[str, Tensor], batches: Sequence[Any]) -> float:
    """The validation loss at averaged weights; the model, its modes and torch's random state are left as they were.

    Args:
        training: whose model it is about.
        means: name → the weights there, shape (shape…); other parameters stay.
        batches: over which every BatchNorm that is in training mode takes its statistics anew.

    Returns:
        What ``validation_loss`` returns.
    """
    model = training.model
    modes = {module: module.training for module in model.modules()}
    parameters = dict(model.named_parameters())
    tensors = [*model.parameters(), *model.buffers()]
    with torch.random.fork_rng(devices=cuda_devices(model)), restored(tensors):
        try:
            for name, mean in means.items():
                parameters[name].copy_(mean)
            _recollect(training, batches)
            model.eval()
            return float(training.validation_loss(model))
        finally:
            for module, mode in modes.items():
                module.training = mode


def _recollect(training: Training, batches: Sequence[Any]) -> None:
    """The statistics of the norms, through the loss: what the network is called with is known to nothing else."""
    if not any(isinstance(module, _BatchNorm) for module in training.model.modules()):
        return
    recalibration = Recalibration(training.model, len(batches))
    recalibration.start()
    try:
        for batch in batches:
            training.loss(training.model, batch)
    finally:
        recalibration.stop()
