"""What a forecast computes on a tile of edges, for each kind of device."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import torch

from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels.tensor_kernel import EdgeTile, TensorKernel
from ninokit.nowcasters.precision import Precision

if TYPE_CHECKING:
    from ninokit.nowcasters.kernels.numba_kernel import NumbaKernel
    from ninokit.nowcasters.kernels.triton_kernel import TritonKernel

__all__ = ["EdgeTile", "TensorKernel", "make_kernel"]

_log = logging.getLogger(__name__)


def make_kernel(composition: Composition, precision: Precision) -> TensorKernel | TritonKernel | NumbaKernel:
    """The best kernel that a nowcaster's device can run.

    Args:
        composition: the nowcaster's matrices.
        precision: of products with a row an edge.

    Returns:
        The fused kernel where Triton or Numba run and it suits the matrices, otherwise the one in tensor operators.
    """
    kernel = TensorKernel(composition)
    if _has_triton(composition.like.device):
        from ninokit.nowcasters.kernels.triton_kernel import TritonKernel

        if TritonKernel.supports(composition):
            return TritonKernel(composition, precision, kernel)
    if _has_numba():
        from ninokit.nowcasters.kernels.blas_kernel import BlasKernel
        from ninokit.nowcasters.kernels.onednn_kernel import OneDnnKernel

        for compiled in (BlasKernel, OneDnnKernel):
            if compiled.supports(composition):
                return compiled(composition, kernel)
    return kernel


@cache
def _has_numba() -> bool:
    """Whether kernels can be compiled for the processor."""
    try:
        import numba  # noqa: F401
    except ImportError as error:  # also of a NumPy that it does not know yet
        _log.info("forecasts on the processor are slower without Numba (%s); install ninokit[fast]", error)
        return False
    return True


@cache
def _has_triton(device: torch.device) -> bool:
    """Whether fused kernels can be compiled for a device: an NVIDIA GPU that has TF32 and bfloat16."""
    if device.type != "cuda" or torch.version.cuda is None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        import triton
    except ImportError as error:
        _log.info("forecasts on %s are slower without Triton: %s", device, error)
        return False
    try:
        triton.runtime.driver.active.get_current_target()
    except Exception as error:  # it compiles its driver, for which compiler or headers may be missing in many ways
        _log.warning("Triton does not start, so forecasts on %s use slower kernels: %s", device, error)
        return False
    return hasattr(triton.language, "gather")  # since 3.3
