"""Which neurons move together in which trial of a check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ninokit.graph.symmetry import Cut

__all__ = ["rounds"]


def rounds(cuts: Sequence[Cut], draws: int) -> Iterator[list[Cut]]:
    """Trials that show a fault however few the neurons are.

    All cuts at once, which suffices where they are large. Two small ones that only may move together could do so by
    chance, every time; so each is numbered from 1 on, and moves in a trial for each binary digit 1 of its number. Each
    moves at least once, and of any two one moves without the other at least once.

    Args:
        cuts: the free cuts of a symmetry, or some of them.
        draws: trials in which all move, at least 1.

    Yields:
        The cuts that move.

    Example:
        >>> list(rounds("abc", 1))
        [['a', 'b', 'c'], ['a', 'c'], ['b', 'c']]
    """
    if cuts:
        yield from [list(cuts)] * draws
        for digit in range(len(cuts).bit_length()):
            yield [cut for number, cut in enumerate(cuts, 1) if number >> digit & 1]
