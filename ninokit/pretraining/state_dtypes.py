"""In which precision states are stored, and how they get there and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["STATE_DTYPES", "StateDtype"]


@dataclass(frozen=True)
class StateDtype:
    """A precision of stored states.

    Args:
        stored: the array's type in the store.
        missing: a number of that type which is no finite state, where a chunk is lost.
        pack: states of any floating point type to an array of that type.
        unpack: the array back to a tensor of float32, of its shape.
    """

    stored: str
    missing: float
    pack: Callable[[Tensor], npt.NDArray[Any]]
    unpack: Callable[[npt.NDArray[Any]], Tensor]


def _native(name: str) -> StateDtype:
    """A type that arrays have too."""
    dtype: torch.dtype = getattr(torch, name)
    return StateDtype(
        name, math.nan, lambda states: states.to(dtype).numpy(), lambda array: torch.from_numpy(array).float()
    )


STATE_DTYPES = {
    "float32": _native("float32"),
    "float16": _native("float16"),
    # Arrays have no bfloat16; its bits travel as whole numbers.
    "bfloat16": StateDtype(
        "uint16",
        0x7FC0,  # the bits of NaN
        lambda states: states.to(torch.bfloat16).view(torch.uint16).numpy(),
        lambda array: torch.from_numpy(array).view(torch.bfloat16).float(),
    ),
}
