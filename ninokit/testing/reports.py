"""What a check of an encoding has shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ninokit.graph.structure import NeuralGraph
from ninokit.graph.symmetry import Symmetry
from ninokit.graph.tables import format_table

__all__ = ["EncodingReport", "make_report"]


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
    moved = {group.name: group.size for group in groups if group.name not in symmetry.fixed}
    scalars = [math.prod(b.view.shape) for b in graph.edges if b.view and {b.src.name, b.dst.name} & moved.keys()]
    return EncodingReport(
        model,
        parameters=graph.num_parameters,
        moved_parameters=sum(scalars),
        groups=len(groups),
        moved_groups=len(moved),
        neurons=sum(group.size for group in groups),
        moved_neurons=sum(moved.values()),
        fixed=dict(symmetry.fixed),
        silent=silent,
        rounds=rounds,
        change=change,
    )


def _row(name: str, count: int, total: int) -> list[str]:
    return [name, f"{count:,}", f"{total:,}", f"{count / total:.1%}" if total else "–"]
