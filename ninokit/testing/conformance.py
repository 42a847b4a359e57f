"""All that an architecture promises, checked on its examples."""

from __future__ import annotations

import contextlib
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

__all__ = ["MIN_SHARE", "check_dgl_view", "conformance_checks", "encode_example", "prove_example"]

MIN_SHARE = 0.5  # of the scalar parameters, that permutations must move


def conformance_checks(
    architecture: Architecture | str,
    examples: Iterable[tuple[nn.Module, Any]] | None = None,
    *,
    min_share: float = MIN_SHARE,
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
            graph = encode_example(family, model, inputs)
            reports.append(prove_example(graph, model, inputs, min_share))
            with contextlib.suppress(DependencyError):
                check_dgl_view(graph, model)
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


def encode_example(family: Architecture, model: nn.Module, inputs: Any) -> NeuralGraph:
    """Encode an example, and check that it matches, and is encoded twice alike without being changed.

    Args:
        family: the architecture.
        model: of the family.
        inputs: what the model is called with.

    Returns:
        The model's graph.

    Raises:
        EncodingError: saying what is wrong.
    """
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
    return graph


def prove_example(graph: NeuralGraph, model: nn.Module, inputs: Any, min_share: float) -> EncodingReport:
    """Prove the graph of an example, and check that its numbers survive the way to the edges and back.

    Args:
        graph: of the model.
        model: the example.
        inputs: what the model is called with.
        min_share: share of its scalar parameters, 0 to 1, that permutations must move.

    Returns:
        What the proof says.

    Raises:
        EncodingError: saying what is wrong.
    """
    report = check_encoding(model, inputs, graph, min_share=min_share)
    check_round_trip(graph)
    return report


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def check_dgl_view(graph: NeuralGraph, model: nn.Module) -> None:
    """Check that the DGL view of a graph is complete.

    Args:
        graph: of the model.
        model: whose numbers are on the edges.

    Raises:
        EncodingError: if a node or an edge is missing, or there is one too many.
        DependencyError: if DGL is not installed.
    """
    states = {name: parameter.detach()[None] for name, parameter in model.named_parameters()}
    view = graph.to_dgl(states)
    edges = graph.num_edges + graph.num_nodes  # a self-loop a node
    if (view.num_nodes(), view.num_edges()) != (graph.num_nodes, edges):
        raise EncodingError(
            f"its DGL view has {view.num_nodes()} nodes and {view.num_edges()} edges, "
            f"expected {graph.num_nodes} and {edges}"
        )
