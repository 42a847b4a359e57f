"""What a parameter can be in a transformer: which neurons it joins, and how its edges run.

Neurons stand in **places**. The residual ``stream`` is the place that goes through the network; a layer that adds to it
begins a new group of neurons there. The others belong to one attention (``query``, ``key``, ``value``, ``heads``), one
feed-forward layer (``hidden``, ``experts``), or to the ends of the network (``tokens``, ``outputs``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ninokit.graph import EdgeKind

__all__ = ["FIXED_PLACES", "ROLES", "Role"]

_ATTENTION = ("query", "key", "value", "heads", "kv_heads", "head_dims")
_FEED_FORWARD = ("hidden", "experts", "expert_hidden")

# Rows of tables, inputs and outputs: what they mean depends on their order, so nobody may permute them.
FIXED_PLACES = frozenset({"tokens", "positions", "token_types", "channels", "buckets", "outputs"})


@dataclass(frozen=True)
class Role:
    """What a parameter (or a slice of a fused one) is to the network.

    Args:
        kind: of its edges; a bias beside it is always `EdgeKind.BIAS`.
        reads: the place of its inputs; None for one number a neuron, from an extra node.
        writes: the place of its outputs, which a bias beside it acts on.
        axes: labels of its axes, as in einops: ``in`` and ``out`` neurons, ``stack`` of experts, ``tap``, ``1``.
        begins: whether its outputs are a new group in their place, and whether that is what the place had before plus
            something (``sum``, joined by a residual diagonal) or something else (``fresh``). None: a group that is
            there already is used, so that two parameters may write to one.
        backward: whether its edges run from the outputs to the inputs, as those of keys do.
        closes: places whose neurons nothing later reads.
    """

    kind: EdgeKind
    reads: str | None
    writes: str
    axes: str = "out in"
    begins: Literal["sum", "fresh"] | None = None
    backward: bool = False
    closes: tuple[str, ...] = ()


ROLES: dict[str, Role] = {
    # Embeddings.
    "token": Role(EdgeKind.TOKEN_EMBEDDING, "tokens", "stream", axes="in out"),
    "position": Role(EdgeKind.POSITION_EMBEDDING, "positions", "stream", axes="in out"),
    "token_type": Role(EdgeKind.BIAS, "token_types", "stream", axes="in out"),
    "class_token": Role(EdgeKind.TOKEN_EMBEDDING, None, "stream", axes="1 1 out"),
    "patch": Role(EdgeKind.CONVOLUTION, "channels", "stream", axes="out in tap tap"),
    "norm": Role(EdgeKind.NORM_SCALE, None, "stream", axes="out"),
    # Attention. Query and key neurons pair index by index, so a key leads from them back to what it is a key of.
    "query": Role(EdgeKind.QUERY, "stream", "query"),
    "key": Role(EdgeKind.KEY, "stream", "key", backward=True),
    "value": Role(EdgeKind.VALUE, "stream", "value"),
    "memory_key": Role(EdgeKind.KEY, "memory", "key", backward=True),
    "memory_value": Role(EdgeKind.VALUE, "memory", "value"),
    "other_key": Role(EdgeKind.KEY, "keys", "key", backward=True),
    "other_value": Role(EdgeKind.VALUE, "values", "value"),
    "extra_key": Role(EdgeKind.BIAS, None, "key", axes="1 1 out"),
    "extra_value": Role(EdgeKind.BIAS, None, "value", axes="1 1 out"),
    "head_norm": Role(EdgeKind.NORM_SCALE, None, "head_dims", axes="out"),
    "relative_position": Role(EdgeKind.POSITION_EMBEDDING, "buckets", "heads", axes="in out", closes=("buckets",)),
    "attended": Role(EdgeKind.LINEAR, "value", "stream", begins="sum", closes=_ATTENTION),
    "attended_alone": Role(EdgeKind.LINEAR, "value", "stream", begins="fresh", closes=_ATTENTION),
    # Feed-forward. A gate and what it gates meet in the same hidden neurons.
    "up": Role(EdgeKind.LINEAR, "stream", "hidden"),
    "gate": Role(EdgeKind.LINEAR, "stream", "hidden"),
    "down": Role(EdgeKind.LINEAR, "hidden", "stream", begins="sum", closes=_FEED_FORWARD),
    "parallel_down": Role(EdgeKind.LINEAR, "hidden", "stream", closes=_FEED_FORWARD),
    "router": Role(EdgeKind.LINEAR, "stream", "experts"),
    "expert_up": Role(EdgeKind.LINEAR, "stream", "expert_hidden", axes="stack out in"),
    "expert_gate": Role(EdgeKind.LINEAR, "stream", "expert_hidden", axes="stack out in"),
    "expert_down": Role(
        EdgeKind.LINEAR, "expert_hidden", "stream", axes="stack out in", begins="sum", closes=_FEED_FORWARD
    ),
    # What follows the layers.
    "dense": Role(EdgeKind.LINEAR, "stream", "stream", begins="fresh"),
    "pool": Role(EdgeKind.LINEAR, "stream", "pooled"),
    "outputs": Role(EdgeKind.LINEAR, "stream", "outputs", begins="fresh"),
    "pooled_outputs": Role(EdgeKind.LINEAR, "pooled", "outputs", begins="fresh"),
    "output_shift": Role(EdgeKind.BIAS, None, "outputs", axes="out"),
}
