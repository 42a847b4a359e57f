"""The neural graph of any network, from what it computes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ninokit.calls import call, plain_mappings, tensors_in
from ninokit.errors import GraphError, UnsupportedModelError
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.tracing.assembly import UnevenError, assemble
from ninokit.graph.tracing.call import Rule
from ninokit.graph.tracing.elements import on_cpu
from ninokit.graph.tracing.grouping import find_groups
from ninokit.graph.tracing.network import full_copy, meta_copy
from ninokit.graph.tracing.neurons import resolve
from ninokit.graph.tracing.recorder import Recorder
from ninokit.graph.tracing.rules import RULES

__all__ = ["trace"]

_log = logging.getLogger(__name__)
_NAMED = 5  # parameters named in a message


def trace(model: nn.Module, example_inputs: Any, *, rules: Mapping[str, Rule] | None = None) -> NeuralGraph:
    """Derive the neural graph of a network from what it computes.

    The network runs once, in evaluation mode, on the meta device: no number is computed, and neither the network nor
    the inputs are touched. One that does not run there, because it asks for the value of a number, runs as a copy
    where it is. Every dimension is followed through the operators (docs/tracing.md): layers become blocks of edges,
    sums residual edges, heads of attention nodes. Where an operator has no rule, the order of what it reads is
    declared fixed, and that is logged. Parameters that the network does not use are logged, and left out.

    Args:
        model: any module.
        example_inputs: what it is called with: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
        rules: name of an operator, as ``"aten.relu"``, → its rule; left out, the built-in ones and the plugins'.

    Returns:
        The graph.

    Raises:
        UnsupportedModelError: if the network does not run on the example inputs, or uses no parameter.
        GraphError: if no graph fits what was found, which is a defect of the tracer.

    Example:
        >>> import torch
        >>> from ninokit.graph import trace
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> trace(model, torch.empty(1, 4)).num_edges
        58
    """
    if rules is None:
        from ninokit.plugins import registry

        rules = {**RULES, **registry().tracer_rules()}
    recorder = _record(model, plain_mappings(example_inputs), rules)
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    # A parameter without numbers has none to use.
    shapes = {name: shape for name, shape in parameters.items() if name in recorder.used and 0 not in shape}
    left_out = [name for name in parameters if name not in shapes]
    if not shapes:
        raise UnsupportedModelError(f"{type(model).__name__} uses none of its parameters on the example inputs")
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        _log.info("%s does not use %s%s; left alone", type(model).__name__, ", ".join(left_out[:_NAMED]), more)
    with on_cpu():
        return _assemble(recorder, shapes, left_out)


def _assemble(recorder: Recorder, shapes: Mapping[str, tuple[int, ...]], left_out: list[str]) -> NeuralGraph:
    apart: set[str] = set()
    uneven: set[str] = set()
    opaque: set[str] = set()
    while True:
        found = resolve(recorder.elements, shapes, opaque)
        groups = find_groups(found, recorder.elements, uneven)
        try:
            return assemble(found, groups, recorder.elements, left_out, shapes, apart)
        except UnevenError as error:
            name = error.parameter
            if name in opaque:
                raise GraphError(f"{name}: the tracer finds no edges for it; this is a defect of the tracer") from error
        if name not in apart:
            apart.add(name)
        elif name not in uneven:
            _log.info("the neurons of %s are numbered unevenly; each is a group of its own", name)
            uneven.add(name)
        else:
            _log.info("no view reads %s as edges between neurons; the order of these is fixed", name)
            opaque.add(name)


def _record(model: nn.Module, inputs: Any, rules: Mapping[str, Rule]) -> Recorder:
    device = torch.device("meta")
    empty = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device=device), inputs)
    try:
        return _run(*meta_copy(model), empty, rules, device)
    except Exception as error:
        _log.info("%s does not run on the meta device (%s); running a copy where it is", type(model).__name__, error)
    try:
        twin = full_copy(model).eval().requires_grad_(False)
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} can't be copied, and only a copy may be run: {type(error).__name__}: {error}; "
            f"keep what can't be copied out of the modules' attributes"
        ) from error
    try:
        return _run(twin, (), tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), inputs), rules, None)
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {error}; give inputs "
            f"that the network takes in evaluation mode"
        ) from error


def _run(model: nn.Module, alike: Any, inputs: Any, rules: Mapping[str, Rule], device: torch.device | None) -> Recorder:
    recorder = Recorder(dict(model.named_parameters()), rules, device, alike)
    recorder.enter([leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)])
    # Of parameters that need none nothing is kept; a network may differentiate by its inputs.
    with torch.enable_grad(), _plain_operators(), _kept_random_state(), recorder:
        outputs = call(model, inputs)
    recorder.finish([tensor for leaf in tree_leaves(outputs) for tensor in tensors_in(leaf)])
    return recorder


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Attention in single operators, not in fused ones."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _kept_random_state() -> contextlib.AbstractContextManager[None]:
    """Puts torch's random state back, on the CPU and on CUDA, so that tracing does not change what a training draws."""
    return torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else [])
