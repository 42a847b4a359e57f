"""Data-parallel training: processes that must jump all or none, and to the same weights.

DistributedDataParallel averages gradients and takes it for granted that the weights are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ninokit.encoding import wrappings
from ninokit.errors import ForecastError

__all__ = ["Replicas"]


class Replicas:
    """The processes that train one network together; without a wrapper that joins them, this process alone.

    All of them have to call each method at the same step.

    Args:
        model: the network, perhaps in a DistributedDataParallel.

    Example:
        >>> Replicas(nn.Linear(2, 1)).all_are(True)
        True
    """

    def __init__(self, model: nn.Module) -> None:
        wrapper = next((each for each in wrappings(model) if isinstance(each, DistributedDataParallel)), None)
        self._wrapper = wrapper
        self._group: dist.ProcessGroup | None = wrapper.process_group if wrapper is not None else None
        self._device = next(model.parameters()).device if wrapper is not None else None

    @property
    def may_end_apart(self) -> bool:
        """Whether they are inside DistributedDataParallel's ``join``, where those that are done answer it alone."""
        return bool(getattr(getattr(self._wrapper, "_join_config", None), "enable", False))

    def all_are(self, well: bool) -> bool:
        """Whether something holds in every process.

        Args:
            well: whether it does in this one.

        Returns:
            The same in all of them; what holds in this one, if they may end apart.
        """
        if self._group is None or self.may_end_apart:
            return well
        least = torch.tensor(int(well), device=self._device)
        dist.all_reduce(least, dist.ReduceOp.MIN, self._group)
        return bool(least.item())

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """A context that ends with an error in every process, if it does in one.

        Raises:
            ForecastError: in a process without an error of its own.
        """
        try:
            yield
        except BaseException:
            self.all_are(False)
            raise
        if not self.all_are(True):
            raise ForecastError("another process of the data-parallel training had to refuse its nowcast; see its log")

    def equalize(self, parameters: Iterable[Tensor]) -> None:
        """Give every process the first one's weights: the same forecast may round differently on another device.

        Args:
            parameters: in the same order everywhere; written.
        """
        if self._group is None:
            return
        first = dist.get_global_rank(self._group, 0)
        for parameter in parameters:
            values = parameter.data.contiguous()  # a copy, if the parameter is a part of something
            dist.broadcast(values, first, self._group)
            parameter.data.copy_(values)
