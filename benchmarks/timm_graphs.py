"""What the permutations of a graph leave in place, counted in scalar parameters."""

from __future__ import annotations

from typing import Any

from ninokit.graph import NeuralGraph
from ninokit.graph.symmetry import find_symmetry
from ninokit.testing.reports import count_moved

LARGEST = 3  # parameters that stay in place, listed a graph

Row = dict[str, Any]


def describe_graph(graph: NeuralGraph) -> Row:
    """What a graph is made of, and what its permutations leave in place."""
    moved = count_moved(graph, find_symmetry(graph))
    fixed = {name: shape.numel() - moved[name] for name, shape in graph.parameters.items()}
    largest = sorted(fixed, key=lambda name: -fixed[name])[:LARGEST]
    return {
        "covered": graph.num_parameters,
        "left_out": list(graph.left_out),
        "groups": len(graph.neurons),
        "blocks": len(graph.edges),
        "fixed": sum(fixed.values()),
        "largest_fixed": {name: fixed[name] for name in largest if fixed[name]},
    }


def share_fixed(row: Row) -> float:
    return row["fixed"] / row["covered"] if row["covered"] else 0.0


def largest_fixed(row: Row) -> str:
    """The parameters of which most stays in place, each with its share of all."""
    return ", ".join(f"{name} ({count / row['covered']:.1%})" for name, count in row["largest_fixed"].items())
