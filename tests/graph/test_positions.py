"""Positions against the explicit dense Laplacian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from slow_graphs import adjacency, laplacian, structural
from torch import nn

import ninokit
from ninokit.graph import NeuralGraph, laplacian_positions
from ninokit.graph.positions import _coarsest

TOLERANCE = 1e-9


def check_positions(graph: NeuralGraph, dim: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """All that must hold for the positions of a graph with at least one edge between two nodes."""
    matrix = adjacency(graph)
    operator = laplacian(matrix)
    expected = np.linalg.eigvalsh(operator)[1 : dim + 1]  # the first is the trivial one
    vectors, values = (tensor.numpy() for tensor in laplacian_positions(graph, dim, seed))
    assert vectors.shape == (graph.num_nodes, dim)
    assert vectors.dtype == values.dtype == np.float64
    count = len(expected)
    np.testing.assert_allclose(values[:count], expected, atol=TOLERANCE, rtol=0)
    assert (np.diff(values[:count]) >= 0).all()
    assert not values[count:].any()
    assert not vectors[:, count:].any()
    columns = vectors[:, :count]
    np.testing.assert_allclose(columns.T @ columns, np.eye(count), atol=TOLERANCE)
    np.testing.assert_allclose(operator @ columns, columns * values[:count], atol=TOLERANCE)
    trivial = np.sqrt(matrix.sum(1))
    np.testing.assert_allclose(columns.T @ trivial, 0, atol=1e-8)
    return vectors, values


SIZES = [1, 1, 2, 3, 4, 6, 8, 12]


@st.composite
def graphs(draw: st.DrawFn, nested: bool = False) -> tuple[list[int], list[tuple]]:
    """Sizes and blocks: dense, grouped, diagonal, with a shared end, parallel, reversed, to themselves.

    The graph may be in any number of pieces.
    """
    sizes = draw(st.lists(st.sampled_from([1, 2, 4, 8] if nested else SIZES), min_size=2, max_size=6))
    links = []
    for _ in range(draw(st.integers(1, 8))):
        a, b = draw(st.integers(0, len(sizes) - 1)), draw(st.integers(0, len(sizes) - 1))
        shared = draw(st.sampled_from([None, None, "src", "dst"]))
        cut = [sizes[end] for end, name in ((a, "src"), (b, "dst")) if name != shared]
        common = [n for n in range(1, 13) if all(size % n == 0 for size in cut)]
        links.append((a, b, draw(st.sampled_from(common)), shared))
    return sizes, links


@settings(max_examples=250)
@given(graphs(), st.sampled_from([1, 3, 8, 20]), st.integers(0, 3))
@example(([12, 12], [(0, 1, 4), (0, 1, 6)]), 8, 0)  # parallel, not nested
@example(([12, 12, 12], [(0, 1, 4), (1, 2, 6)]), 8, 0)  # slices of one group not nested
@example(([12, 12], [(0, 1, 2), (0, 1, 6)]), 8, 0)  # parallel, one inside the other
@example(([4, 4, 4], [(0, 1, 4), (0, 1, 1), (1, 2, 1)]), 8, 0)  # a residual beside a dense block
@example(([6, 2], [(0, 0, 1), (0, 1, 1)]), 8, 0)  # a clique
@example(([6, 6], [(0, 0, 3), (0, 1, 6)]), 8, 0)  # small cliques
@example(([6, 6], [(0, 0, 6), (0, 1, 1)]), 8, 0)  # self-loops alone
@example(([3, 4, 5], [(0, 1, 1)]), 8, 0)  # an isolated group
@example(([2, 3, 3, 2, 1], [(0, 1, 1), (2, 3, 1)]), 8, 0)  # two pieces, and one alone
@example(([8, 8], [(0, 1, 8)]), 8, 0)  # eight pieces
@example(([8, 8], [(0, 1, 8)]), 20, 0)
@example(([6, 4, 6], [(0, 1, 3, "dst"), (0, 2, 3)]), 8, 0)  # a dense block in three parts, beside slices
@example(([4, 6], [(0, 1, 6, "src")]), 8, 0)
@example(([6, 6], [(0, 1, 6, "dst")]), 8, 0)  # no diagonal
@example(([1, 1], [(0, 1, 1)]), 8, 0)
@example(([1, 2], [(1, 0, 1)]), 8, 0)
def test_random_graphs(case, dim, seed):
    graph = structural(*case)
    assume(adjacency(graph).any())
    check_positions(graph, dim, seed)


@settings(max_examples=100)
@given(graphs(nested=True), st.sampled_from([8, 60]))
def test_random_graphs_with_nested_slices(case, dim):
    graph = structural(*case)
    assume(adjacency(graph).any())
    check_positions(graph, dim)


def test_known_spectra():
    # A complete bipartite graph: 0, 1 (n - 2 times), 2.
    _, values = check_positions(structural([3, 4], [(0, 1, 1)]))
    np.testing.assert_allclose(values, [1, 1, 1, 1, 1, 2, 0, 0], atol=1e-12)
    # A path of four nodes: 1 - cos(pi k / 3).
    _, values = check_positions(structural([1, 1, 1, 1], [(0, 1, 1), (1, 2, 1), (2, 3, 1)]))
    np.testing.assert_allclose(values[:3], 1 - np.cos(np.pi * np.arange(1, 4) / 3), atol=1e-12)
    # A complete graph of 5: 0, and 5/4 four times.
    _, values = check_positions(structural([5], [(0, 0, 1)]))
    np.testing.assert_allclose(values, [1.25] * 4 + [0] * 4, atol=1e-12)
    # Eight pairs: 0 eight times, 2 eight times.
    _, values = check_positions(structural([8, 8], [(0, 1, 8)]), 15)
    np.testing.assert_allclose(values, [0] * 7 + [2] * 8, atol=1e-12)


def test_two_nodes_by_hand():
    vectors, values = laplacian_positions(structural([1, 1], [(0, 1, 1)]), 3)
    assert values.tolist() == pytest.approx([2, 0, 0])
    assert sorted(vectors[:, 0].tolist()) == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert not vectors[:, 1:].any()


def test_single_node_is_all_zeros():
    vectors, values = laplacian_positions(structural([1], []), 8)
    assert vectors.shape == (1, 8)
    assert not vectors.any()
    assert not values.any()


def test_graph_without_edges_has_orthonormal_vectors_of_the_identity():
    vectors, values = laplacian_positions(structural([4, 3], []), 4)
    assert torch.allclose(vectors.T @ vectors, torch.eye(4, dtype=torch.float64))
    assert values.tolist() == [1] * 4


def test_parallel_edges_and_self_loops_and_directions_do_not_count():
    plain = structural([3, 4, 4], [(0, 1, 1), (1, 2, 2)])
    richer = structural([3, 4, 4], [(0, 1, 1), (1, 0, 1), (0, 1, 1), (2, 1, 2), (1, 2, 4), (1, 1, 4)])
    assert np.array_equal(adjacency(plain), adjacency(richer))
    for ours, theirs in zip(laplacian_positions(plain, 8), laplacian_positions(richer, 8), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def chain() -> NeuralGraph:
    return ninokit.encode(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5)))


def test_seed_is_reproducible():
    first, again, other = (laplacian_positions(chain(), 8, seed) for seed in (3, 3, 4))
    assert torch.equal(first.vectors, again.vectors)
    assert torch.equal(first.values, other.values)
    degenerate = (first.values - 1).abs() < 1e-9
    assert 3 <= degenerate.sum() < 8
    assert (first.vectors[:, ~degenerate].abs() - other.vectors[:, ~degenerate].abs()).abs().max() < 1e-9
    cosines = (first.vectors[:, degenerate] * other.vectors[:, degenerate]).sum(0).abs()
    assert cosines.max() < 0.9
    # Not the same few directions rotated: another part of the large eigenspace.
    both = torch.cat([first.vectors[:, degenerate], other.vectors[:, degenerate]], 1)
    assert torch.linalg.matrix_rank(both, tol=1e-6) == both.shape[1]


def test_drawing_leaves_the_global_generators_alone():
    graph = chain()
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    laplacian_positions(graph, 8)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_equal_neurons_are_told_apart():
    graph = chain()
    vectors, _ = check_positions(graph)
    start = 0
    for group in graph.neurons:
        rows = vectors[start : start + group.size]
        start += group.size
        for i in range(group.size):
            for j in range(i):
                assert np.linalg.norm(rows[i] - rows[j]) > 0.02


def test_random_basis_is_dense_over_the_nodes():
    graph = chain()
    vectors, values = check_positions(graph)
    flat = vectors[:, np.abs(values - 1) < 1e-9]
    # The participation ratio of Gaussian entries is a third of the nodes, of a unit axis one.
    ratios = 1 / (flat**4).sum(0)
    assert ratios.min() > 0.15 * graph.num_nodes
    assert np.abs(flat).max() < 0.75


def test_basis_is_uniform_over_the_eigenspace():
    graph = chain()
    operator = laplacian(adjacency(graph))
    values, vectors = np.linalg.eigh(operator)
    space = vectors[:, np.abs(values - 1) < 1e-9]
    expected = (space**2).sum(1) / space.shape[1]  # mean square of a random unit vector of the space, node by node
    draws = [laplacian_positions(graph, 8, seed) for seed in range(150)]
    flat = np.hstack([d.vectors[:, (d.values - 1).abs() < 1e-9].numpy() for d in draws])
    np.testing.assert_allclose((flat**2).mean(1), expected, atol=0.012)
    np.testing.assert_allclose(flat.mean(1), 0, atol=0.03)


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.Linear(3, 2),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 7, groups=2)),
        lambda: nn.Sequential(nn.Conv1d(4, 8, 3, groups=4), nn.Conv1d(8, 8, 3, groups=8), nn.Conv1d(8, 2, 1)),
        lambda: nn.Sequential(nn.Conv1d(12, 12, 3, groups=4), nn.Conv1d(12, 12, 3, groups=6), nn.Conv1d(12, 2, 1)),
    ],
)
def test_networks(model):
    check_positions(ninokit.encode(model()))


def test_large_networks_need_no_edge_list():
    layers = [nn.Linear(40_000, 60_000, device="meta"), nn.ReLU(), nn.Linear(60_000, 30_000, device="meta")]
    graph = ninokit.encode(nn.Sequential(*layers))  # 4.2 billion edges
    vectors, values = laplacian_positions(graph, 8)
    assert torch.allclose(vectors.T @ vectors, torch.eye(8, dtype=torch.float64), atol=1e-9)
    assert (values >= 0).all()
    assert (values.diff() >= 0).all()


def test_slices_inside_others_keep_off_the_dense_path():
    """A residual beside a dense block adds no neighbour, so the graph's cost stays that of its groups."""
    assert _coarsest({1, 4, 12}) == (1,)
    assert _coarsest({2, 4, 6, 12}) == (2,)
    assert _coarsest({4, 6, 12}) == (4, 6)
    assert _coarsest({5}) == (5,)
