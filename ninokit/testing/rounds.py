"""Which neurons move together in which trial of a check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ninokit.graph.symmetry import Cut

__all__ = ["rounds"]

_FEW = 5


def rounds(cuts: Sequence[Cut], draws: int) -> Iterator[list[Cut]]:
    """Trials that show a fault however few the neurons are.

    First all cuts move at once, which suffices where they have many slices. But two small ones that only may move
    together could do so by chance, every time; so each is numbered from 1 on, and moves in a trial for each binary
    digit 1 of its number: of any two, one moves without the other at least once. And four slices that are two pairs
    stay pairs in a third of their orders; so cuts of few slices move more often.

    Args:
        cuts: the free cuts of a symmetry, or some of them.
        draws: trials in which all move, at least 1.

    Yields:
        The cuts that move.

    Example:
        >>> from ninokit.graph.symmetry import Cut
        >>> cuts = [Cut(size, (f"of {size}",), None, False, ()) for size in (8, 9, 2)]
        >>> [[cut.number for cut in moving] for moving in rounds(cuts, 1)]
        [[8, 9, 2], [8, 2], [9, 2], [2], [2]]
    """
    if cuts:
        yield from [list(cuts)] * draws
        for digit in range(len(cuts).bit_length()):
            yield [cut for number, cut in enumerate(cuts, 1) if number >> digit & 1]
    few = [cut for cut in cuts if cut.step <= _FEW]
    if few:
        yield from [few] * (2 * draws)
