"""All that an architecture promises, checked on its examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ninokit.encoding import Architecture, architectures
from ninokit.errors import ArchitectureError, DependencyError, EncodingError
from ninokit.graph.structure import NeuralGraph
from ninokit.testing.check import check_encoding
from ninokit.testing.reports import EncodingReport
from ninokit.testing.round_trips import check_round_trip

__all__ = ["conformance_checks"]


def conformance_checks(
    architecture: Architecture | str,
    examples: Iterable[tuple[nn.Module, Any]] | None = None,
    *,
    min_share: float = 0.5,
) -> list[EncodingReport]:
    """Check an architecture on small examples; one call is a plugin's test.

    Each must match and be encoded, twice alike and without a change of the model; `check_encoding` must prove the
    graph; its numbers must survive the way to the edges and back; and its DGL view must have its nodes and edges,
    where DGL is installed.

    Args:
        architecture: the family, or the name of a registered one.
        examples: models, each with what it is called with; left out, the family's own examples.
        min_share: share of each model's scalar parameters, 0 to 1, that permutations must move.

    Returns:
        A report an example.

    Raises:
        EncodingError: naming the example and what is wrong.
        ArchitectureError: if there is no such family.

    Example:
        >>> from ninokit.testing import conformance_checks
        >>> all(report.share > 0.5 for report in conformance_checks("mlp"))
        True
    """
    family = _find(architecture) if isinstance(architecture, str) else architecture
    if examples is None:
        examples = family.examples() if family.examples else ()
    reports = []
    for number, (model, inputs) in enumerate(examples):
        try:
            reports.append(_check(family, model, inputs, min_share))
        except EncodingError as error:
            raise EncodingError(f"example {number} of {family.name!r}: {error}", error.culprits) from error
    if not reports:
        raise EncodingError(f"{family.name!r} has no examples; pass some, or give its Architecture the field examples")
    return reports


def _find(name: str) -> Architecture:
    known = architectures()
    if name not in known:
        raise ArchitectureError(f"architecture: there is none named {name!r}; registered are {sorted(known)}")
    return known[name]


def _check(family: Architecture, model: nn.Module, inputs: Any, min_share: float) -> EncodingReport:
    name = type(model).__name__
    if not family.matches(model):
        raise EncodingError(f"{name} does not match")
    before, training = _snapshot(model), model.training
    graph = family.encode(model, inputs)
    after = _snapshot(model)
    changed = [key for key in before if key not in after or not torch.equal(before[key], after[key])]
    if changed or before.keys() != after.keys() or model.training != training:
        raise EncodingError(f"encoding changes {name}: {', '.join(changed) or 'its mode or its tensors'}")
    if family.encode(model, inputs) != graph:
        raise EncodingError(f"{name} encoded twice has two graphs")
    report = check_encoding(model, inputs, graph, min_share=min_share)
    check_round_trip(graph)
    _check_dgl_view(graph, model)
    return report


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def _check_dgl_view(graph: NeuralGraph, model: nn.Module) -> None:
    states = {name: parameter.detach()[None] for name, parameter in model.named_parameters()}
    try:
        view = graph.to_dgl(states)
    except DependencyError:
        return
    edges = graph.num_edges + graph.num_nodes  # a self-loop a node
    if (view.num_nodes(), view.num_edges()) != (graph.num_nodes, edges):
        raise EncodingError(
            f"its DGL view has {view.num_nodes()} nodes and {view.num_edges()} edges, "
            f"expected {graph.num_nodes} and {edges}"
        )
