"""Where a neural graph is wrong: the neurons that are not interchangeable, and what repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import torch

from ninokit.graph.structure import NeuralGraph
from ninokit.graph.symmetry import Cut, Symmetry, find_symmetry
from ninokit.testing.repairs import Repair, repairs
from ninokit.testing.rounds import rounds
from ninokit.testing.twins import Twin

__all__ = ["Fault", "find_fault"]

_MAX_LISTED = 8
_DRAWS = 3  # of neurons that are in doubt


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
    twin: Twin, graph: NeuralGraph, *, reused: Set[str], tolerance: float, generator: torch.Generator
) -> Fault:
    """Find out why a graph's permutations change the output.

    First each class of tied slices moves alone. Then the graph is changed near those that break the output, until it
    stays.

    Args:
        twin: the network.
        graph: its graph, which is wrong.
        reused: parameters that several modules of the network share.
        tolerance: change of the output that is none.
        generator: on the CPU, for the permutations.

    Returns:
        The fault.
    """
    symmetry = find_symmetry(graph, reused=reused)

    def changes(of: NeuralGraph, allowed: Symmetry, cuts: Sequence[Cut]) -> Iterator[float]:
        return (twin.change(of, allowed.draw(generator, moving)) for moving in rounds(cuts, _DRAWS))

    alone = {cut: max(changes(graph, symmetry, [cut])) for cut in symmetry.free}
    broken = {cut: alone[cut] for cut in sorted(alone, key=lambda cut: -alone[cut]) if alone[cut] > tolerance}
    if not broken:
        return Fault(broken, None, ())
    worst = frozenset(next(iter(broken)).groups)

    def holds(repaired: Symmetry, repair: Repair, suspects: Set[str]) -> bool:
        """Whether the suspects move, and leave the output as it is."""
        if not suspects or not suspects.isdisjoint(repaired.fixed):
            return False
        moving = [cut for cut in repaired.free if not suspects.isdisjoint(cut.groups)]
        return all(change <= tolerance for change in changes(repair.graph, repaired, moving))

    # One fault explains all that is broken; of several, one at least explains the worst.
    for suspects in dict.fromkeys([worst.union(*(cut.groups for cut in broken)), worst]):
        wider = suspects | symmetry.roles.keys()
        for near, far in zip(repairs(graph, symmetry, suspects), repairs(graph, symmetry, wider), strict=True):
            for repair in near:
                if holds(find_symmetry(repair.graph, reused=reused, roles=symmetry.roles), repair, suspects):
                    return Fault(broken, repair, ())
            # A wrong wire may also make inputs or outputs look inner, and inner neurons like inputs or outputs.
            for repair in far:
                repaired = find_symmetry(repair.graph, reused=reused)
                if repaired.roles != symmetry.roles and holds(repaired, repair, wider - repaired.roles.keys()):
                    return Fault(broken, repair, ())
    touching = [b.parameter for b in graph.edges if b.parameter and {b.src.name, b.dst.name} & worst]
    return Fault(broken, None, tuple(dict.fromkeys(touching)))
