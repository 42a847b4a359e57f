"""A neural graph as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninokit.graph.structure import NeuralGraph

__all__ = ["describe", "format_table", "listed", "summarize"]

_MAX_LISTED = 5


def describe(graph: NeuralGraph) -> str:
    """The groups and blocks of a graph as two tables.

    Args:
        graph: any neural graph.

    Returns:
        Text of several lines, the first a summary; parameters that are left out come last.
    """
    neurons = [[group.name, f"{group.size:,}"] for group in graph.neurons]
    edges = [
        [
            block.parameter or "–",
            block.kind.name.lower(),
            block.pattern if block.pattern != "grouped" else f"grouped ({block.groups})",
            f"{block.src.name} → {block.dst.name}",
            f"{block.num_taps:,}",
            f"{block.num_edges:,}",
        ]
        for block in graph.edges
    ]
    header = ["parameter", "kind", "pattern", "from → to", "taps", "edges"]
    parts = [summarize(graph), format_table(["neurons", "size"], neurons), format_table(header, edges)]
    if graph.left_out:
        parts.append(f"left out, as the network does not use them: {listed(graph.left_out)}")
    return "\n\n".join(parts)


def summarize(graph: NeuralGraph) -> str:
    """What a graph is made of, in one line.

    Args:
        graph: any neural graph.

    Returns:
        The numbers of neurons, groups, edges, blocks, and parameters.
    """
    structural = sum(block.num_edges for block in graph.edges if block.parameter is None)
    return (
        f"neural graph: {graph.num_nodes:,} neurons in {len(graph.neurons):,} groups, {graph.num_edges:,} edges in "
        f"{len(graph.edges):,} blocks ({structural:,} structural), {graph.num_parameters:,} parameters"
    )


def listed(names: Sequence[str]) -> str:
    """Names in a line, the first five if there are more.

    Args:
        names: in order.

    Returns:
        The names, and how many there are if some are not shown.

    Example:
        >>> listed("abcdefg")
        'a, b, c, d, e, … (7 in all)'
    """
    return (
        ", ".join(names) if len(names) <= _MAX_LISTED else f"{', '.join(names[:_MAX_LISTED])}, … ({len(names)} in all)"
    )


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns; a column whose cells are all numbers is aligned right.

    Args:
        header: the columns' names.
        rows: cells, as many a row as columns.

    Returns:
        One line for the header, one of dashes, and one a row.

    Example:
        >>> print(format_table(["name", "size"], [["a", "1"], ["b", "20"]]))
        name  size
        ----  ----
        a        1
        b       20
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(cell.replace(",", "").isdigit() for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])
