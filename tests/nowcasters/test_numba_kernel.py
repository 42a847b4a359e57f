"""The kernel for bfloat16 on a processor against the one in tensor operators, and the choice between them."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ninokit
from ninokit.graph import EdgeKind
from ninokit.nowcasters import Nino, kernels, streaming
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import EdgeTile, TensorKernel, products
from ninokit.nowcasters.precision import product_dtype

pytest.importorskip("numba")

from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels.numba_kernel import NumbaKernel

has_numba = kernels._has_numba.__wrapped__  # without its cache


@pytest.fixture(scope="module", autouse=True)
def _hardware_has_bfloat16():
    if not products.has_one_dnn("cpu", torch.bfloat16):
        pytest.skip("this processor has no bfloat16")


def composed(nino: Nino, taps: int) -> Composition:
    return Composition(nino, {taps}, product_dtype(nino.precision, nino.edge_embedding.weight.dtype))


@st.composite
def tiles(draw, hidden: int, rounds: int, context: int) -> EdgeTile:
    """Ragged in all axes, with ends that slices have of their own or share, as slices of larger tensors."""
    shape = draw(st.integers(1, 3)), draw(st.sampled_from([16, 21])), draw(st.sampled_from([1, 2, 31, 32, 70]))
    taps = draw(st.sampled_from([1, 2, 3, 9]))
    ends = [draw(nodes(shape[0], size, hidden, rounds)) for size in shape[1:]]
    kind = draw(st.sampled_from(list(EdgeKind)))
    return EdgeTile(kind, taps, torch.randn(*shape, context * taps), list(zip(*ends, strict=True)))


@st.composite
def nodes(draw, groups: int, size: int, hidden: int, rounds: int) -> list[torch.Tensor]:
    """Features of nodes in each round."""
    shared = draw(st.booleans())
    everything = torch.randn(rounds, 1 if shared else groups, size + 3, hidden)[:, :, 2:-1]
    return list(everything.expand(-1, groups, -1, -1))


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).double().norm() <= tolerance * expected.double().norm()


@settings(max_examples=40)
@given(st.data(), st.integers(1, 3), st.sampled_from([8, 24, 64]), st.sampled_from([3, 5, 7]))
def test_predictions_of_a_tile(data, layers, hidden, context):
    tile = data.draw(tiles(hidden, layers, context))
    nino = Nino(hidden, context=context, layers=layers, precision="bfloat16").requires_grad_(False)
    expected = TensorKernel(Composition(nino, {tile.taps}, torch.float32)).changes(tile, horizon=7)
    assert_close(NumbaKernel(composed(nino, tile.taps), None).changes(tile, horizon=7), expected, 1e-2)


@settings(max_examples=40)
@given(st.data(), st.integers(1, 3), st.sampled_from([8, 24, 64]), st.sampled_from([3, 5, 7]))
def test_messages_of_a_tile(data, index, hidden, context):
    tile = data.draw(tiles(hidden, index + 1, context))
    (at_dst, at_src), tile = tile.ends[-1], replace(tile, ends=tile.ends[:index])
    nino = Nino(hidden, context=context, layers=index + 1, precision="bfloat16").requires_grad_(False)
    expected = TensorKernel(Composition(nino, {tile.taps}, torch.float32)).messages(index, tile, at_dst, at_src)
    found = NumbaKernel(composed(nino, tile.taps), None).messages(index, tile, at_dst, at_src)
    assert_close(found, expected, 1e-2)


def all_numbers() -> torch.Tensor:
    """Every number that bfloat16 has, shape (1, 65536, 1)."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16).view(1, -1, 1).clone()


def activated(numbers: torch.Tensor) -> tuple[torch.Tensor, float]:
    found, total = numbers.clone(), np.zeros((1, 1), np.float32)
    nothing = np.zeros((numbers.shape[1], 1), np.float32)
    programs.activate(found.view(torch.int16).numpy(), nothing[:1], nothing, total)
    return found.double(), total.item()


def test_the_activation_of_every_number():
    numbers = all_numbers()
    numbers = numbers[:, (numbers.abs() < 1e20).flatten()]
    found, _ = activated(numbers)
    expected = nn.functional.silu(numbers.double())
    torch.testing.assert_close(found, expected, rtol=2**-8 * 1.1, atol=1e-15)  # a rounding is half of 2⁻⁷


def test_what_is_not_finite_stays_so():
    numbers = all_numbers()
    numbers = numbers[:, ~numbers.isfinite().flatten()]
    assert not activated(numbers)[0].isfinite().any()


def test_the_sum_is_not_rounded():
    numbers = torch.full((1, 4096, 1), 3.0, dtype=torch.bfloat16)
    assert activated(numbers)[1] == pytest.approx(4096 * 3 / (1 + np.exp(-3)), rel=1e-4)


@pytest.fixture
def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(40, 300), nn.ReLU(), nn.Linear(300, 30))


def relative_error(found, expected, history) -> float:
    """Of the step, over all parameters."""
    assert found.keys() == expected.keys()
    difference = sum((found[name] - expected[name]).double().square().sum() for name in expected)
    step = sum((expected[name] - history[name][-1]).double().square().sum() for name in expected)
    return float((difference / step).sqrt())


@pytest.mark.usefixtures("dgl_installed")
@pytest.mark.parametrize("numba", [True, False], ids=["with numba", "without"])
@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_with_the_published_weights(shared_folder, request, monkeypatch, history_of, network, numba):
    monkeypatch.setattr(kernels, "_has_numba", lambda: numba)
    nino = ninokit.nowcasters.load(shared_folder / "weights" / "nino_no_posw.pt", precision="bfloat16")
    model = request.getfixturevalue(network)
    graph, history = ninokit.encode(model), history_of(model)
    expected = dict(nino.forecast_with_dgl(graph, history, 40))
    assert 1e-5 < relative_error(dict(nino.forecast(graph, history, 40)), expected, history) < 1e-2


def test_the_kernels_differ_by_rounding_alone(monkeypatch, mlp, history_of):
    nino, graph, history = Nino(32, precision="bfloat16"), ninokit.encode(mlp), history_of(mlp)
    found = []
    for numba in (True, False):
        monkeypatch.setattr(kernels, "_has_numba", lambda numba=numba: numba)
        found.append(dict(nino.forecast(graph, history, 5)))
    assert 0 < relative_error(*found, history) < 1e-2


@pytest.fixture
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restored_threads")
def test_same_bits_on_any_number_of_threads(mlp, history_of, monkeypatch):
    monkeypatch.setitem(streaming._TILE_EDGES, "cpu", 32)
    nino, graph, history = Nino(16, precision="bfloat16"), ninokit.encode(mlp), history_of(mlp)
    found = []
    for threads in (1, 1, 2, 5):
        torch.set_num_threads(threads)
        found.append(dict(nino.forecast(graph, history, 5)))
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in found[0])


@pytest.mark.parametrize(
    ("nino", "kernel"),
    [
        (Nino(16, precision="bfloat16"), NumbaKernel),
        (Nino(16), TensorKernel),
        (Nino(16, precision="tf32"), TensorKernel),
        (Nino(16, precision="bfloat16").double(), TensorKernel),
    ],
)
def test_choice_by_precision(nino, kernel):
    assert type(kernels.make_kernel(composed(nino, 1), nino.precision)) is kernel


def test_choice_by_processor(monkeypatch):
    monkeypatch.setattr(products, "has_one_dnn", lambda *_: False)
    assert type(kernels.make_kernel(composed(Nino(16, precision="bfloat16"), 1), "bfloat16")) is TensorKernel


def test_numba_is_not_installed(monkeypatch):
    assert has_numba()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not has_numba()
