"""A training on its way: it steps, and has the weights to be scored, as they are and averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.hooks import RemovableHandle

from ninokit.training import NowcastEvent, attach

__all__ = ["ReadOut", "Trainer", "averaging_trainer"]


class ReadOut(Protocol):
    """Where the averaged weights come from: the handle of `ninokit.attach`, or an optimizer's own average."""

    @property
    def events(self) -> Sequence[NowcastEvent]:
        """The nowcasts so far."""

    def averaged(self, batches: Iterable[Any] | None = None) -> AbstractContextManager[None]:
        """See `Trainer.averaged`."""

    def detach(self) -> None:
        """Leave the optimizers as they were."""


class Trainer:
    """A training on its way; an arm begins it.

    The loop calls `zero_grad`, computes the gradients, and calls `step`. What an arm does beyond that after each step,
    such as an outer step or a jump, it does in hooks on the optimizers, so that the average sees the weights of the
    next batch.

    Args:
        optimizers: in the order in which they step.
        read_out: of the averaged weights.
        schedulers: of the optimizers' rates; they step after the optimizers.
        hooks: to be removed when the training is closed.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> trainer = averaging_trainer(model, [torch.optim.SGD(model.parameters(), lr=1.0)], window=3)
        >>> for _ in range(2):
        ...     trainer.zero_grad()
        ...     model(torch.ones(1, 1)).backward()  # moves the weight by -1
        ...     trainer.step()
        >>> raw = model.weight.item()
        >>> with trainer.averaged():
        ...     print(round(model.weight.item() - raw, 6))
        0.5
        >>> trainer.close()
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        read_out: ReadOut,
        schedulers: Sequence[LRScheduler] = (),
        hooks: Sequence[RemovableHandle] = (),
    ) -> None:
        self.optimizers = tuple(optimizers)
        self._read_out = read_out
        self._schedulers = schedulers
        self._hooks = hooks

    @property
    def events(self) -> tuple[NowcastEvent, ...]:
        """The nowcasts so far, in order."""
        return tuple(self._read_out.events)

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Take one step with the gradients that the parameters have."""
        for optimizer in self.optimizers:
            optimizer.step()
        for scheduler in self._schedulers:
            scheduler.step()

    def raw(self) -> AbstractContextManager[None]:
        """A context in which the network has the weights that are trained, as it has outside."""
        return nullcontext()

    def averaged(self, batches: Iterable[Any] | None = None) -> AbstractContextManager[None]:
        """A context in which the network has the averaged weights; its own, and its buffers, come back bit for bit.

        Args:
            batches: of inputs, over which BatchNorm statistics are collected for these weights; left out, they are
                those of the weights that are trained.
        """
        return self._read_out.averaged(batches)

    def close(self) -> None:
        """Leave no hook on the optimizers. Calling it again does nothing."""
        self._read_out.detach()
        for hook in self._hooks:
            hook.remove()


def averaging_trainer(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    window: int,
    *,
    schedulers: Sequence[LRScheduler] = (),
    hooks: Sequence[RemovableHandle] = (),
) -> Trainer:
    """A training without nowcasts, whose averaged weights are ninokit's running average.

    Args:
        model: the network, on its device.
        optimizers: of its parameters, in the order in which they step.
        window: optimizer steps that the average spans, at least 1.
        schedulers: see `Trainer`.
        hooks: see `Trainer`; those on optimizers' steps come before the average, as they were registered before it.

    Returns:
        The training, before its first step.

    Raises:
        ConfigError: see `ninokit.attach`.
    """
    return Trainer(optimizers, attach(list(optimizers), model, None, average=window), schedulers, hooks)
