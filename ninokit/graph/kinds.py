"""The kinds of edges of a neural graph, numbered as the published nowcasters know them."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["NUM_KINDS", "EdgeKind"]


class EdgeKind(IntEnum):
    """What a block of edges is to the network.

    The numbers index the kind embedding of a nowcaster (Knyazev et al. 2025, appendix on edge types); 12 is unused
    there, and 0 is what padding has.
    """

    PADDING = 0
    LINEAR = 1
    BIAS = 2  # and any parameter that no other kind describes
    CONVOLUTION = 3
    NORM_SCALE = 4
    TOKEN_EMBEDDING = 5  # and class tokens
    POSITION_EMBEDDING = 6
    QUERY = 7
    KEY = 8
    VALUE = 9
    RESIDUAL = 10
    ATTENTION_HEAD = 11  # a node of the structure to its neurons: of a head, or of an expert
    SELF_LOOP = 13

    @property
    def structural(self) -> bool:
        """Whether edges of this kind carry a constant instead of a parameter."""
        return self in _CONSTANTS

    @property
    def constant(self) -> float:
        """The value that a structural edge carries in its first tap, at every context state.

        Raises:
            KeyError: for a kind whose edges carry a parameter.
        """
        return _CONSTANTS[self]


_CONSTANTS = {EdgeKind.RESIDUAL: 1.0, EdgeKind.ATTENTION_HEAD: 1.0, EdgeKind.SELF_LOOP: 2.0}

NUM_KINDS = 15
