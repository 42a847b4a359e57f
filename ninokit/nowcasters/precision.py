"""How exactly the products of a forecast are computed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, get_args

import torch

from ninokit.errors import ConfigError

__all__ = ["Precision", "check_precision", "float32_products", "multiplies_bfloat16", "product_dtype"]

_log = logging.getLogger(__name__)

Precision = Literal["float32", "tf32", "bfloat16"]


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Args:
        precision: a name.

    Raises:
        ConfigError: naming those that there are.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision: expected one of {list(get_args(Precision))}, got {precision!r}")


def product_dtype(precision: Precision, own: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of the factors of large products.

    Args:
        precision: as asked for.
        own: the dtype of the nowcaster's weights.
        device: where the products are computed.

    Returns:
        bfloat16 where it is asked for and the device multiplies it; otherwise the nowcaster's own. In software,
        products in bfloat16 take several times as long as the exact ones.
    """
    if precision != "bfloat16" or not multiplies_bfloat16(device.type):
        return own
    return torch.bfloat16


@cache
def multiplies_bfloat16(device: str) -> bool:
    """Whether products in bfloat16 are not slower than others; logs a warning, once, where they are.

    Args:
        device: type of the device.

    Returns:
        False for a processor without instructions for them.
    """
    if device != "cpu" or (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return True
    _log.warning(
        "this processor has no products in bfloat16; forecasts with precision='bfloat16' compute as exactly as with "
        "'float32', and take as long"
    )
    return False


@contextmanager
def float32_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute float32 products on a GPU as asked for, whatever the program's own setting.

    Args:
        precision: ``tf32`` lets the GPU round their factors to 10 bits; other devices have no such choice.
        device: where the products are computed. The switch is the whole program's: on a GPU, forecasts of different
            precision must not overlap in several threads.
    """
    if device.type != "cuda":
        yield
        return
    # torch 2.9 renamed the switch, and warns when the old name is mixed with the new one.
    matmul = torch.backends.cuda.matmul
    new = hasattr(matmul, "fp32_precision")
    name, on, off = ("fp32_precision", "tf32", "ieee") if new else ("allow_tf32", True, False)
    before = getattr(matmul, name)
    setattr(matmul, name, on if precision == "tf32" else off)
    try:
        yield
    finally:
        setattr(matmul, name, before)
