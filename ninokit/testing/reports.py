"""What a check of an encoding has shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ninokit.graph.structure import NeuralGraph
from ninokit.graph.symmetry import Symmetry
from ninokit.graph.tables import format_table

__all__ = ["EncodingReport", "count_moved", "make_report"]


@dataclass(frozen=True)
class EncodingReport:
    """What the permutations of a neural graph have moved, without a change of the network's output.

    Groups of one neuron (biases, norm scales) have no order and are not counted.

    Args:
        model: the class of the network.
        parameters: number of scalar parameters.
        moved_parameters: those that some permutation moves.
        groups: number of groups.
        moved_groups: those whose neurons change places.
        neurons: number of neurons.
        moved_neurons: those that change places.
        fixed: groups that keep their order, and why: ``"input"``, ``"output"``, ``"input and output"``,
            ``"declared rigid"``, ``"tied to 'other group'"``, ``"cut into slices that do not nest"``.
        silent: parameters without influence on the outputs; that they were moved proves nothing.
        rounds: permutations tried.
        change: the largest change of the output that they made, relative to its size.
    """

    model: str
    parameters: int
    moved_parameters: int
    groups: int
    moved_groups: int
    neurons: int
    moved_neurons: int
    fixed: Mapping[str, str]
    silent: tuple[str, ...]
    rounds: int
    change: float

    @property
    def share(self) -> float:
        """Share of the scalar parameters that some permutation moves."""
        return self.moved_parameters / self.parameters

    def __str__(self) -> str:
        counts = [
            _row("parameters", self.moved_parameters, self.parameters),
            _row("groups", self.moved_groups, self.groups),
            _row("neurons", self.moved_neurons, self.neurons),
        ]
        parts = [
            f"encoding of {self.model}: {self.rounds} permutations change the output by {self.change:.1e} of its size",
            format_table(["permuted", "count", "of", "share"], counts),
        ]
        if self.fixed:
            parts.append(format_table(["fixed neurons", "because"], [[*item] for item in self.fixed.items()]))
        if self.silent:
            parts.append(f"without influence on the output: {', '.join(self.silent)}")
        return "\n\n".join(parts)


def make_report(
    graph: NeuralGraph, symmetry: Symmetry, *, model: str, silent: tuple[str, ...], rounds: int, change: float
) -> EncodingReport:
    """Count what the permutations of a graph move.

    Args:
        graph: a neural graph.
        symmetry: the permutations that it allows.
        model: the class of the network.
        silent: parameters without influence on the outputs.
        rounds: permutations tried.
        change: the largest change of the output that they made.

    Returns:
        The report.
    """
    groups = [group for group in graph.neurons if group.size > 1]
    moved = _moved_groups(graph, symmetry)
    return EncodingReport(
        model,
        parameters=graph.num_parameters,
        moved_parameters=sum(count_moved(graph, symmetry).values()),
        groups=len(groups),
        moved_groups=len(moved),
        neurons=sum(group.size for group in groups),
        moved_neurons=sum(moved.values()),
        fixed=dict(symmetry.fixed),
        silent=silent,
        rounds=rounds,
        change=change,
    )


def count_moved(graph: NeuralGraph, symmetry: Symmetry) -> dict[str, int]:
    """Count the scalar parameters that the permutations of a graph move.

    Args:
        graph: a neural graph.
        symmetry: the permutations that it allows.

    Returns:
        Name of every parameter → how many of its scalars some permutation moves.

    Example:
        >>> import torch, ninokit
        >>> from ninokit.graph.symmetry import find_symmetry
        >>> graph = ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)))
        >>> count_moved(graph, find_symmetry(graph))
        {'0.weight': 6, '0.bias': 2, '2.weight': 2, '2.bias': 0}
    """
    moved = _moved_groups(graph, symmetry).keys()
    counts = dict.fromkeys(graph.parameters, 0)
    for block in graph.edges:
        if block.parameter and block.view and {block.src.name, block.dst.name} & moved:
            counts[block.parameter] += math.prod(block.view.shape)
    return counts


def _moved_groups(graph: NeuralGraph, symmetry: Symmetry) -> dict[str, int]:
    """Groups whose neurons change places, and their sizes."""
    return {group.name: group.size for group in graph.neurons if group.size > 1 and group.name not in symmetry.fixed}


def _row(name: str, count: int, total: int) -> list[str]:
    return [name, f"{count:,}", f"{total:,}", f"{count / total:.1%}" if total else "–"]
