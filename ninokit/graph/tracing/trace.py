"""The neural graph of any network, from what it computes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ninokit.graph.structure import NeuralGraph
from ninokit.graph.tracing.assembly import assemble
from ninokit.graph.tracing.grouping import find_groups
from ninokit.graph.tracing.network import meta_copy
from ninokit.graph.tracing.neurons import resolve
from ninokit.graph.tracing.recorder import Recorder
from ninokit.graph.tracing.rules import RULES

__all__ = ["trace"]

_log = logging.getLogger(__name__)


def trace(model: nn.Module, example_inputs: Any) -> NeuralGraph:
    """Derive the neural graph of a network from what it computes.

    The network runs once in evaluation mode, on the meta device: no number is computed, and neither the network nor
    the inputs are touched.

    Args:
        model: any module.
        example_inputs: what it is called with: a tensor, a tuple of arguments, or a dictionary of keyword arguments.

    Returns:
        The graph.

    Example:
        >>> import torch
        >>> from ninokit.graph import trace
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> trace(model, torch.empty(1, 4)).num_edges
        58
    """
    device = torch.device("meta")
    copy = meta_copy(model)
    parameters = dict(copy.named_parameters())
    recorder = Recorder(parameters, RULES, device)
    inputs = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device=device), example_inputs)
    recorder.enter([leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)])
    with torch.no_grad(), _plain_attention(), recorder:
        outputs = _call(copy, inputs)
    recorder.finish([leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)])
    shapes = {name: tuple(p.shape) for name, p in parameters.items() if name in recorder.used}
    left_out = [name for name in parameters if name not in recorder.used]
    found = resolve(recorder.elements, shapes)
    groups = find_groups(found, recorder.elements)
    return assemble(found, groups, recorder.elements, left_out, shapes)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention in single operators, not in fused ones."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
