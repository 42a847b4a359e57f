"""Laplacian positional encoding from the blocks alone: exact, and without listing an edge.

The graph is taken as undirected and binary: parallel edges count once, self-loops not at all. Its normalised
Laplacian is I - S with S = D^(-1/2) A D^(-1/2). A block of *g* slices joins every neuron of a source slice to every
neuron of the destination slice, so S maps functions that are constant on slices to such functions, and kills what
sums to zero over each of its slices. Cutting the groups finer and finer therefore splits S into **sectors**: the
functions constant on *n* slices that sum to zero over each of the *m* coarser slices (m divides n). On a sector S
acts as one small symmetric matrix between the groups, n - m times over. Sector by sector this gives all eigenvalues
with their multiplicities, from matrices of the size of the number of groups.

Where slices are not nested (some 4 and some 6 of them on the same neurons), the neurons they join are handled by a
dense matrix instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from ninokit.graph.structure import NeuralGraph

__all__ = ["LaplacianPositions", "laplacian_positions"]

Floats = NDArray[np.float64]
Links = Mapping[tuple[int, int], tuple[int, ...]]

# Eigenvalues closer than this are one eigenspace; it bounds the residual of the vectors drawn from it.
_SAME_EIGENVALUE = 1e-9


class LaplacianPositions(NamedTuple):
    """Eigenvectors of the normalised Laplacian, and their eigenvalues.

    Attributes:
        vectors: shape (nodes, dim), float64, orthonormal columns.
        values: shape (dim,), float64, ascending, in [0, 2].
    """

    vectors: Tensor
    values: Tensor


def laplacian_positions(graph: NeuralGraph, dim: int, seed: int = 0) -> LaplacianPositions:
    """The unit eigenvectors of the smallest non-trivial eigenvalues of the normalised Laplacian.

    An eigenspace of several dimensions gets a random orthonormal basis, spread over all its nodes, so that neurons
    with equal neighbours are told apart. The trivial eigenvector, the square roots of the degrees, is left out; a
    network in several pieces keeps the others of eigenvalue 0. A graph of fewer nodes gets columns of zeros, with
    eigenvalue 0, for what is missing.

    Args:
        graph: any neural graph.
        dim: number of eigenvectors, at least 1.
        seed: of the random bases and signs.

    Returns:
        The vectors and their eigenvalues. Source: Dwivedi et al. 2023 (Laplacian eigenvectors as positions); Knyazev
        et al. 2025, who use 8.

    Example:
        >>> import torch, ninokit
        >>> graph = ninokit.encode(torch.nn.Linear(3, 2))
        >>> laplacian_positions(graph, 2).values.round(decimals=6)
        tensor([1., 1.], dtype=torch.float64)
    """
    operator = _Operator.of(graph)
    spaces = sorted(operator.eigenspaces(), key=lambda space: space.value)
    generator = np.random.default_rng(seed)
    columns, values = [_trivial(operator)], [0.0]
    most = min(dim + 1, operator.num_nodes)
    for cluster in _clusters(spaces):
        wanted = min(most - sum(c.shape[1] for c in columns), sum(space.dimension for space in cluster))
        if cluster[0].value < _SAME_EIGENVALUE:
            wanted = min(wanted, sum(space.dimension for space in cluster) - 1)  # the trivial one is drawn already
        if wanted > 0:
            columns.append(_draw(cluster, operator, wanted, np.hstack(columns), generator))
            values.extend([cluster[0].value] * wanted)
    vectors = np.zeros((operator.num_nodes, dim))
    drawn = np.hstack(columns)[:, 1:]
    vectors[:, : drawn.shape[1]] = drawn
    padded = np.zeros(dim)
    padded[: drawn.shape[1]] = np.clip(values[1:], 0, 2)
    return LaplacianPositions(torch.from_numpy(vectors), torch.from_numpy(padded))


def _trivial(operator: _Operator) -> Floats:
    roots = np.sqrt(operator.spread(operator.degrees))[:, None]
    norm = np.linalg.norm(roots)
    return roots / norm if norm else np.full_like(roots, len(roots) ** -0.5)


def _clusters(spaces: Sequence[_Eigenspace]) -> Iterator[list[_Eigenspace]]:
    """Eigenspaces of (numerically) one eigenvalue; `spaces` is sorted."""
    cluster: list[_Eigenspace] = []
    for space in spaces:
        if cluster and space.value - cluster[-1].value > _SAME_EIGENVALUE:
            yield cluster
            cluster = []
        cluster.append(space)
    if cluster:
        yield cluster


def _draw(
    cluster: Sequence[_Eigenspace],
    operator: _Operator,
    count: int,
    known: Floats,
    generator: np.random.Generator,
) -> Floats:
    """A random orthonormal set of an eigenspace: random vectors, projected onto it."""
    noise = generator.standard_normal((operator.num_nodes, count))
    drawn = np.zeros_like(noise)
    for space in cluster:
        space.add_projection(noise, drawn)
    drawn -= known @ (known.T @ drawn)
    return np.linalg.qr(drawn)[0]


class _Eigenspace(Protocol):
    """One eigenvalue of a part of the operator, with the space of its eigenvectors."""

    @property
    def value(self) -> float: ...
    @property
    def dimension(self) -> int: ...
    def add_projection(self, vectors: Floats, out: Floats) -> None:
        """Add to `out` the projection of `vectors`, both (nodes, any), onto the space."""


@dataclass(frozen=True)
class _SectorSpace:
    """All functions of a sector in which the groups stand in fixed proportions."""

    value: float
    coarse: int  # slices over each of which the functions sum to zero; 0: no condition
    fine: int  # slices on each of which the functions are constant
    proportions: Floats  # unit vector, one entry a group
    ranges: Sequence[slice]  # the groups' nodes

    @property
    def dimension(self) -> int:
        return self.fine - self.coarse

    def add_projection(self, vectors: Floats, out: Floats) -> None:
        content = sum(
            weight * self._sliced(vectors[nodes]).sum(1) * self._unit(nodes)
            for weight, nodes in zip(self.proportions, self.ranges, strict=True)
        )
        if self.coarse:  # shape (fine, any)
            content = content.reshape(self.coarse, self.fine // self.coarse, -1)
            content = (content - content.mean(1, keepdims=True)).reshape(self.fine, -1)
        for weight, nodes in zip(self.proportions, self.ranges, strict=True):
            part = out[nodes]  # a view: the groups are ranges of rows
            part += np.repeat(weight * self._unit(nodes) * content, len(part) // self.fine, axis=0)

    def _sliced(self, rows: Floats) -> Floats:
        return rows.reshape(self.fine, len(rows) // self.fine, -1)

    def _unit(self, nodes: slice) -> float:
        return ((nodes.stop - nodes.start) / self.fine) ** -0.5


@dataclass(frozen=True)
class _DenseSpace:
    """One eigenvector of a part without nested slices."""

    value: float
    vector: Floats  # over `nodes`
    nodes: NDArray[np.int64]
    dimension: int = 1

    def add_projection(self, vectors: Floats, out: Floats) -> None:
        out[self.nodes] += np.outer(self.vector, self.vector @ vectors[self.nodes])


@dataclass(frozen=True)
class _Operator:
    """The normalised Laplacian of the undirected binary graph, by groups.

    `links` maps a pair of groups (by index, smaller first) to the numbers of slices by which they are joined, those
    that are contained in others left out; `degrees` holds a neuron's neighbours, one number a group, where `links`
    are nested.
    """

    sizes: Sequence[int]
    links: Links

    @classmethod
    def of(cls, graph: NeuralGraph) -> _Operator:
        index = {group.name: i for i, group in enumerate(graph.neurons)}
        found: dict[tuple[int, int], set[int]] = defaultdict(set)
        for block in graph.edges:
            first, second = sorted((index[block.src.name], index[block.dst.name]))
            found[first, second].add(block.pieces)
        links = {pair: _coarsest(groups) for pair, groups in found.items()}
        return cls([group.size for group in graph.neurons], links)

    @cached_property
    def num_nodes(self) -> int:
        return sum(self.sizes)

    @cached_property
    def degrees(self) -> Floats:
        """Neighbours of a node, shape (groups,) or, where slices are not nested, (nodes,)."""
        if not self._regular:
            return self._adjacency(range(len(self.sizes))).sum(1)
        degrees = np.zeros(len(self.sizes))
        for (first, second), (groups,) in self.links.items():
            degrees[first] += self.sizes[second] // groups - (first == second)
            if first != second:
                degrees[second] += self.sizes[first] // groups
        return degrees

    def spread(self, values: Floats) -> Floats:
        """One number a group (or a node) → one a node."""
        return values if len(values) == self.num_nodes else np.repeat(values, self.sizes)

    def eigenspaces(self) -> Iterator[_Eigenspace]:
        everything = range(len(self.sizes))
        if self._regular:
            yield from self._sector(everything, 0, 1)
            yield from self._finer(everything, 1)
        else:
            yield from self._dense(everything, 0)

    @cached_property
    def _regular(self) -> bool:
        """Whether every pair of groups is joined by one number of slices, so that a group's degrees are equal."""
        return all(len(groups) == 1 for groups in self.links.values())

    def _finer(self, groups: Sequence[int], level: int) -> Iterator[_Eigenspace]:
        """The functions that sum to zero over each of `level` slices of each group."""
        for part in self._parts([group for group in groups if self.sizes[group] > level], level):
            slices = [number for (a, b), (number,) in self.links.items() if a in part and b in part]
            finer = [number for number in slices if number > level]
            fine = min(finer) if finer else self.sizes[part[0]]
            if any(number % fine for number in finer):
                yield from self._dense(part, level)
            else:
                yield from self._sector(part, level, fine)
                yield from self._finer(part, fine)

    def _parts(self, groups: Sequence[int], level: int) -> list[list[int]]:
        """Groups joined, directly or not, by more than `level` slices."""
        parts = [{group} for group in groups]
        for pair, (number,) in self.links.items():
            if number > level:
                joined = [part for part in parts if part & set(pair)]
                parts = [part for part in parts if not part & set(pair)] + ([set.union(*joined)] if joined else [])
        return [sorted(part) for part in parts]

    def _sector(self, part: Sequence[int], coarse: int, fine: int) -> Iterator[_Eigenspace]:
        """Diagonalise S between the groups, for functions constant on `fine` slices, without sum on `coarse`."""
        roots = np.sqrt(np.maximum(self.degrees, 1))  # an isolated neuron's row of S is zero whatever its root
        matrix = np.zeros((len(part), len(part)))
        place = {group: i for i, group in enumerate(part)}
        for (a, b), (number,) in self.links.items():
            if a not in place or b not in place:
                continue
            joint = (self.sizes[a] * self.sizes[b]) ** 0.5 / number if number > coarse else 0.0
            weight = (joint - (a == b)) / (roots[a] * roots[b])
            matrix[place[a], place[b]] = matrix[place[b], place[a]] = weight
        ranges = [self._nodes(group) for group in part]
        values, vectors = np.linalg.eigh(matrix)
        for value, vector in zip(values, vectors.T, strict=True):
            yield _SectorSpace(1 - float(value), coarse, fine, vector, ranges)

    def _dense(self, part: Sequence[int], level: int) -> Iterator[_Eigenspace]:
        """Diagonalise S neuron by neuron, for functions that sum to zero over each of `level` slices."""
        nodes = np.concatenate([np.arange(self.num_nodes)[self._nodes(group)] for group in part])
        roots = np.sqrt(np.maximum(self.spread(self.degrees)[nodes], 1))
        matrix = self._adjacency(part) / np.outer(roots, roots)
        constant = self._slice_averages(part, level)
        free = np.eye(len(nodes)) - constant
        values, vectors = np.linalg.eigh(free @ matrix @ free - 9 * constant)  # S lies in [-1, 1]: -9 marks the rest
        for value, vector in zip(values, vectors.T, strict=True):
            if value > -5:
                yield _DenseSpace(1 - float(value), vector, nodes)

    def _adjacency(self, part: Sequence[int]) -> Floats:
        starts = dict(zip(part, np.cumsum([0, *(self.sizes[group] for group in part)]), strict=False))
        matrix = np.zeros((sum(self.sizes[group] for group in part),) * 2)
        for (a, b), numbers in self.links.items():
            if a not in starts or b not in starts:
                continue
            rows, columns = np.arange(self.sizes[a])[:, None], np.arange(self.sizes[b])[None]
            for number in numbers:
                joined = rows * number // self.sizes[a] == columns * number // self.sizes[b]
                corner = (
                    slice(starts[a], starts[a] + self.sizes[a]),
                    slice(starts[b], starts[b] + self.sizes[b]),
                )
                matrix[corner] = np.maximum(matrix[corner], joined)
        matrix = np.maximum(matrix, matrix.T)
        np.fill_diagonal(matrix, 0)
        return matrix

    def _slice_averages(self, part: Sequence[int], level: int) -> Floats:
        """The projection onto functions that are constant on each of `level` slices of each group."""
        slices = (
            [np.full((size, size), 1 / size) for group in part for size in [self.sizes[group] // level] * level]
            if level
            else []
        )
        matrix = np.zeros((sum(self.sizes[group] for group in part),) * 2)
        start = 0
        for average in slices:
            matrix[start : start + len(average), start : start + len(average)] = average
            start += len(average)
        return matrix

    def _nodes(self, group: int) -> slice:
        start = sum(self.sizes[:group])
        return slice(start, start + self.sizes[group])


def _coarsest(groups: set[int]) -> tuple[int, ...]:
    """Leave out numbers of slices whose edges are among another's: finer slices lie inside coarser ones."""
    return tuple(sorted(n for n in groups if not any(n % other == 0 for other in groups if other != n)))
