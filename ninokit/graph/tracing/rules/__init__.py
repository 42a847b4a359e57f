"""The rules of the operators, in one table: name of an operator → what it does to neurons.

A name is that of the operator's packet, such as ``aten.add``; an operator that works in place has the rule of the one
that does not. `ninokit.hookspecs.ninokit_tracer_rules` adds further ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from ninokit.graph.tracing.call import Rule
from ninokit.graph.tracing.rules.contractions import CONTRACTIONS
from ninokit.graph.tracing.rules.elementwise import ELEMENTWISE
from ninokit.graph.tracing.rules.indexing import INDEXING
from ninokit.graph.tracing.rules.movement import MOVEMENT
from ninokit.graph.tracing.rules.norms import NORMS
from ninokit.graph.tracing.rules.reductions import REDUCTIONS
from ninokit.graph.tracing.rules.spatial import SPATIAL

__all__ = ["RULES"]

RULES: Mapping[str, Rule] = {
    **ELEMENTWISE,
    **MOVEMENT,
    **INDEXING,
    **REDUCTIONS,
    **NORMS,
    **SPATIAL,
    **CONTRACTIONS,
}
