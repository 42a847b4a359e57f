"""Where a neural graph is wrong: the neurons that are not interchangeable, and what repairs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from ninokit.graph.structure import NeuralGraph
from ninokit.graph.symmetry import Cut, Symmetry, find_symmetry
from ninokit.testing.repairs import Repair, repairs
from ninokit.testing.rounds import rounds
from ninokit.testing.twins import Twin

__all__ = ["Fault", "find_fault"]

_MAX_LISTED = 8


@dataclass(frozen=True)
class Fault:
    """What is wrong with a graph.

    Args:
        broken: cuts whose slices are not interchangeable → change of the output when they alone move, worst first.
        repair: a change under which these neurons are interchangeable; None if no small one was found.
        parameters: those on the edges of the worst cut.
    """

    broken: Mapping[Cut, float]
    repair: Repair | None
    parameters: tuple[str, ...]

    @property
    def culprits(self) -> tuple[str, ...]:
        """What is at fault, as far as it is known."""
        return self.repair.culprits if self.repair else ()

    def __str__(self) -> str:
        lines = [f"{cut.label}: moved alone, they change it by {change:.1e}" for cut, change in self.broken.items()]
        if len(lines) > _MAX_LISTED:
            lines[_MAX_LISTED:] = [f"and {len(lines) - _MAX_LISTED} more such"]
        lines.append(self._advice())
        return "\n".join(f"  {line}" for line in lines)

    def _advice(self) -> str:
        if self.repair:
            return f"at fault: {self.repair.advice}"
        if not self.broken:
            return "no neurons alone change it as much; a network so sensitive to rounding needs a larger tolerance"
        names = ", ".join(self.parameters[:_MAX_LISTED]) + (", …" if len(self.parameters) > _MAX_LISTED else "")
        return (
            f"at fault: no single block; the first of these neurons have the parameters {names}. If the network treats "
            f"them differently, declare them rigid; if it adds them to others, tie them to these"
        )


def find_fault(
    twin: Twin, graph: NeuralGraph, symmetry: Symmetry, *, tolerance: float, generator: torch.Generator
) -> Fault:
    """Find out why a graph's permutations change the output.

    First each class of tied slices moves alone. Then the graph is changed near those that break the output, until it
    stays.

    Args:
        twin: the network.
        graph: its graph, which is wrong.
        symmetry: the permutations that it allows.
        tolerance: change of the output that is none.
        generator: on the CPU, for the permutations.

    Returns:
        The fault.
    """
    alone = {cut: twin.change(graph, symmetry.draw(generator, [cut])) for cut in symmetry.free}
    broken = {cut: alone[cut] for cut in sorted(alone, key=lambda cut: -alone[cut]) if alone[cut] > tolerance}
    if not broken:
        return Fault(broken, None, ())
    worst = frozenset(next(iter(broken)).groups)
    # One fault explains all that is broken; of several, one at least explains the worst.
    for suspects in dict.fromkeys([worst.union(*(cut.groups for cut in broken)), worst]):
        for repair in repairs(graph, symmetry, suspects):
            if _holds(twin, repair.graph, symmetry, suspects, tolerance, generator):
                return Fault(broken, repair, ())
    touching = [b.parameter for b in graph.edges if b.parameter and {b.src.name, b.dst.name} & worst]
    return Fault(broken, None, tuple(dict.fromkeys(touching)))


def _holds(
    twin: Twin,
    graph: NeuralGraph,
    symmetry: Symmetry,
    suspects: Collection[str],
    tolerance: float,
    generator: torch.Generator,
) -> bool:
    """Whether under a changed graph the suspects move, and leave the output as it is."""
    changed = find_symmetry(graph, roles=symmetry.roles, ties=symmetry.ties)
    if not changed.fixed.keys().isdisjoint(suspects):
        return False
    moving = [cut for cut in changed.free if not set(cut.groups).isdisjoint(suspects)]
    trials = (twin.change(graph, changed.draw(generator, cuts)) for cuts in rounds(moving, 1))
    return all(change <= tolerance for change in trials)
