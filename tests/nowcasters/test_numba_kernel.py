"""The kernel that Numba compiles against the one in tensor operators, and the choice between them."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import ninokit
from ninokit.graph import EdgeKind
from ninokit.nowcasters import Nino, kernels, streaming
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import EdgeTile, TensorKernel, products
from ninokit.nowcasters.precision import product_dtype

pytest.importorskip("numba")

from ninokit.nowcasters.kernels import numba_kernel
from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels.numba_kernel import NumbaKernel

has_numba = kernels._has_numba.__wrapped__  # without its cache

CPU = torch.device("cpu")

# What a forecast may miss of the step.
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request) -> str:
    return needs_hardware(request.param)


def needs_hardware(precision: str) -> str:
    if not products.has_one_dnn("cpu", getattr(torch, precision)):
        pytest.skip(f"oneDNN has no {precision} on this processor")
    return precision


def composed(nino: Nino, taps: int) -> Composition:
    return Composition(nino, {taps}, product_dtype(nino.precision, nino.edge_embedding.weight.dtype, CPU))


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


@pytest.fixture(params=[1, 2**20], ids=["a destination at a time", "all at once"])
def few_at_once(request, monkeypatch):
    monkeypatch.setattr(numba_kernel, "_CACHED_BYTES", request.param)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 3), st.sampled_from([8, 24, 64]), st.sampled_from([3, 5, 7]))
def test_predictions_of_a_tile(few_at_once, precision, data, layers, hidden, context):
    tile = data.draw(tiles(hidden, layers, context))
    nino = Nino(hidden, context=context, layers=layers, precision=precision).requires_grad_(False)
    expected = TensorKernel(Composition(nino, {tile.taps}, torch.float32)).changes(tile, horizon=7)
    assert_close(NumbaKernel(composed(nino, tile.taps), None).changes(tile, horizon=7), expected, TOLERANCE[precision])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 3), st.sampled_from([8, 24, 64]), st.sampled_from([3, 5, 7]))
def test_messages_of_a_tile(few_at_once, precision, data, index, hidden, context):
    tile = data.draw(tiles(hidden, index + 1, context))
    (at_dst, at_src), tile = tile.ends[-1], replace(tile, ends=tile.ends[:index])
    nino = Nino(hidden, context=context, layers=index + 1, precision=precision).requires_grad_(False)
    expected = TensorKernel(Composition(nino, {tile.taps}, torch.float32)).messages(index, tile, at_dst, at_src)
    found = NumbaKernel(composed(nino, tile.taps), None).messages(index, tile, at_dst, at_src)
    assert_close(found, expected, TOLERANCE[precision])


def all_numbers() -> torch.Tensor:
    """Every number that bfloat16 has, shape (1, 65536, 1)."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16).view(1, -1, 1).clone()


def activated(numbers: torch.Tensor) -> tuple[torch.Tensor, float]:
    found, total = numbers.clone(), np.zeros((1, 1), np.float32)
    nothing = np.zeros((numbers.shape[1], 1), np.float32)
    programs.activate(numba_kernel._array(found), nothing[:1], nothing, 0, total)
    return found.double(), total.item()


@pytest.mark.parametrize(
    ("dtype", "error"),
    [(torch.bfloat16, 2**-8 * 1.1), (torch.float32, 3e-6)],  # a rounding is half of 2⁻⁷
)
def test_the_activation_of_every_number(dtype, error):
    numbers = all_numbers().to(dtype)
    numbers = numbers[:, (numbers.abs() < 1e20).flatten()]
    found, _ = activated(numbers)
    expected = nn.functional.silu(numbers.double())
    torch.testing.assert_close(found, expected, rtol=error, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_not_finite_stays_so(dtype):
    numbers = all_numbers().to(dtype)
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
def test_with_the_published_weights(shared_folder, request, monkeypatch, history_of, network, numba, precision):
    monkeypatch.setattr(kernels, "_has_numba", lambda: numba)
    nino = ninokit.nowcasters.load(shared_folder / "weights" / "nino_no_posw.pt", precision=precision)
    model = request.getfixturevalue(network)
    graph, history = ninokit.encode(model), history_of(model)
    expected = dict(nino.forecast_with_dgl(graph, history, 40))
    error = relative_error(dict(nino.forecast(graph, history, 40)), expected, history)
    assert TOLERANCE[precision] / 1000 < error < TOLERANCE[precision]


def test_the_kernels_differ_by_rounding_alone(monkeypatch, mlp, history_of, precision):
    nino, graph, history = Nino(32, precision=precision), ninokit.encode(mlp), history_of(mlp)
    found = []
    for numba in (True, False):
        monkeypatch.setattr(kernels, "_has_numba", lambda numba=numba: numba)
        found.append(dict(nino.forecast(graph, history, 5)))
    assert 0 < relative_error(*found, history) < TOLERANCE[precision]


@pytest.fixture
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restored_threads")
def test_same_bits_on_any_number_of_threads(mlp, history_of, monkeypatch, precision):
    monkeypatch.setitem(streaming._TILE_EDGES, "cpu", 32)
    nino, graph, history = Nino(16, precision=precision), ninokit.encode(mlp), history_of(mlp)
    found = []
    for threads in (1, 1, 2, 5):
        torch.set_num_threads(threads)
        found.append(dict(nino.forecast(graph, history, 5)))
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in found[0])


@pytest.mark.parametrize(
    ("nino", "kernel"),
    [
        (Nino(16, precision="bfloat16"), NumbaKernel),
        (Nino(16), NumbaKernel),
        (Nino(16, precision="tf32"), NumbaKernel),
        (Nino(16).double(), TensorKernel),
        (Nino(16, precision="bfloat16").double(), TensorKernel),
    ],
)
def test_choice_by_dtype(nino, kernel):
    needs_hardware("bfloat16" if nino.precision == "bfloat16" else "float32")
    assert type(kernels.make_kernel(composed(nino, 1), nino.precision)) is kernel


def test_choice_by_processor(monkeypatch):
    monkeypatch.setattr(products, "has_one_dnn", lambda *_: False)
    assert type(kernels.make_kernel(composed(Nino(16, precision="bfloat16"), 1), "bfloat16")) is TensorKernel


def test_numba_is_not_installed(monkeypatch):
    assert has_numba()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not has_numba()
