"""Copies of tensors that leave a CUDA device without stopping the training.

The copies themselves are torch's; this module is the only one that knows of streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Transfer"]


class Transfer:
    """Copies between devices; those from CUDA to the host run beside the computation.

    Memory may be let go while it is still copied to: torch gives page-locked memory out again when that is done.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}  # one a device, made at its first copy

    def allocate(self, source: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory that a tensor can be copied to, page-locked where only that lets a copy run on its own.

        Args:
            source: what will be copied.
            shape: of the memory.
            dtype: of the memory.
            device: of the memory.

        Returns:
            Uninitialised, of that shape, dtype and device.
        """
        pinned = _leaves_cuda(source.device, device)
        return source.new_empty(tuple(shape), dtype=dtype, device=device, pin_memory=pinned)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy a tensor as it is now, whatever is written to it afterwards.

        Args:
            source: any tensor; from CUDA to the host, as much memory as `target` has is taken beside it meanwhile.
            target: part of what `allocate` returned; of the source's shape, not to be read before `wait`.
        """
        if not _leaves_cuda(source.device, target.device):
            target.copy_(source)
            return
        # Cloned in the order of the training's own work; only the clone may be read later.
        staged = source.to(target.dtype, copy=True, memory_format=torch.contiguous_format)
        stream = self._stream(source.device)
        staged.record_stream(stream)  # its memory is given to nobody else before the copy is done
        stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(stream):
            target.copy_(staged, non_blocking=True)

    def wait(self) -> None:
        """Return once all copies are done."""
        for stream in self._streams.values():
            stream.synchronize()

    def _stream(self, device: torch.device) -> torch.cuda.Stream:
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        return self._streams[device]


def _leaves_cuda(source: torch.device, target: torch.device) -> bool:
    return source.type == "cuda" and target.type == "cpu"
