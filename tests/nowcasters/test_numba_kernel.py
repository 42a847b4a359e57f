"""The kernels that Numba compiles against the one in tensor operators, and the choice between them."""

import os
import subprocess
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
from ninokit.nowcasters import Nino, kernels, streaming, workers
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import EdgeTile, TensorKernel, products
from ninokit.nowcasters.precision import product_dtype

pytest.importorskip("numba")

from ninokit.nowcasters.kernels import blas_kernel, onednn_kernel
from ninokit.nowcasters.kernels import numba_programs as programs
from ninokit.nowcasters.kernels.blas_kernel import BlasKernel
from ninokit.nowcasters.kernels.onednn_kernel import OneDnnKernel

has_numba = kernels._has_numba.__wrapped__  # without its cache

CPU = torch.device("cpu")

# What a forecast may miss of the step.
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request) -> str:
    return needs_hardware(request.param)


def needs_hardware(precision: str) -> str:
    if precision == "bfloat16" and not products.has_one_dnn("cpu", torch.bfloat16):
        pytest.skip("oneDNN has no bfloat16 on this processor")
    return precision


def composed(nino: Nino, taps: int) -> Composition:
    return Composition(nino, {taps}, product_dtype(nino.precision, nino.edge_embedding.weight.dtype, CPU))


@st.composite
def tiles(draw, hidden: int, rounds: int, context: int) -> EdgeTile:
    """Ragged in all axes, with ends that slices have of their own or share, as slices of larger tensors."""
    shape = draw(st.integers(1, 3)), draw(st.sampled_from([16, 21])), draw(st.sampled_from([1, 2, 31, 32, 70]))
    taps = draw(st.sampled_from([1, 2, 3, 5, 9]))
    ends = [draw(nodes(shape[0], size, hidden, rounds)) for size in shape[1:]]
    kind = draw(st.sampled_from(list(EdgeKind)))
    return EdgeTile(kind, taps, torch.randn(*shape, context * taps), list(zip(*ends, strict=True)))


@st.composite
def nodes(draw, groups: int, size: int, hidden: int, rounds: int) -> list[torch.Tensor]:
    """Features of nodes in each round, of slices that share them perhaps once for all."""
    shared = draw(st.booleans())
    everything = torch.randn(rounds, 1 if shared else groups, size + 3, hidden)[:, :, 2:-1]
    return list(everything if draw(st.booleans()) else everything.expand(-1, groups, -1, -1))


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).double().norm() <= tolerance * expected.double().norm()


@pytest.fixture(params=[1, 2**12, 2**20], ids=["an edge at a time", "a few", "all at once"])
def few_at_once(request, monkeypatch):
    for kernel in (BlasKernel, OneDnnKernel):
        monkeypatch.setattr(kernel, "_cached_bytes", request.param)


# Here in software where the processor has no bfloat16.
each_kernel = pytest.mark.parametrize(
    ("kernel", "dtype"), [(BlasKernel, torch.float32), (OneDnnKernel, torch.bfloat16)], ids=["float32", "bfloat16"]
)


@each_kernel
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 3), st.sampled_from([8, 24, 64]), st.sampled_from([1, 3, 5, 7]))
def test_predictions_of_a_tile(few_at_once, kernel, dtype, data, layers, hidden, context):
    tile = data.draw(tiles(hidden, layers, context))
    nino = Nino(hidden, context=context, layers=layers).requires_grad_(False)
    expected, found = (
        make(Composition(nino, {tile.taps}, products)).changes(tile, horizon=7)
        for make, products in ((TensorKernel, torch.float32), (lambda matrices: kernel(matrices, None), dtype))
    )
    assert_close(found, expected, TOLERANCE[str(dtype).removeprefix("torch.")])


@each_kernel
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 3), st.sampled_from([8, 24, 64]), st.sampled_from([1, 3, 5, 7]))
def test_messages_of_a_tile(few_at_once, kernel, dtype, data, index, hidden, context):
    tile = data.draw(tiles(hidden, index + 1, context))
    (at_dst, at_src), tile = tile.ends[-1], replace(tile, ends=tile.ends[:index])
    nino = Nino(hidden, context=context, layers=index + 1).requires_grad_(False)
    expected, found = (
        make(Composition(nino, {tile.taps}, products)).messages(index, tile, at_dst, at_src)
        for make, products in ((TensorKernel, torch.float32), (lambda matrices: kernel(matrices, None), dtype))
    )
    assert_close(found, expected, TOLERANCE[str(dtype).removeprefix("torch.")])


def all_numbers() -> torch.Tensor:
    """Every number that bfloat16 has, shape (65536, 1)."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)[:, None].clone()


def bits(numbers: torch.Tensor) -> np.ndarray:
    return (numbers.view(torch.int16) if numbers.dtype == torch.bfloat16 else numbers).numpy()


def activated(numbers: torch.Tensor) -> torch.Tensor:
    found, nothing = numbers.clone(), np.zeros((len(numbers), 1), np.float32)
    programs.activate(bits(found), nothing[:1], nothing, len(numbers), 0, programs.SILU)
    return found.double()


@pytest.mark.parametrize(
    ("dtype", "error"),
    [(torch.bfloat16, 2**-8 * 1.1), (torch.float32, 3e-6)],  # a rounding is half of 2⁻⁷
)
def test_the_activation_of_every_number(dtype, error):
    numbers = all_numbers().to(dtype)
    numbers = numbers[(numbers.abs() < 1e20).flatten()]
    expected = nn.functional.silu(numbers.double())
    torch.testing.assert_close(activated(numbers), expected, rtol=error, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_not_finite_stays_so(dtype):
    numbers = all_numbers().to(dtype)
    numbers = numbers[~numbers.isfinite().flatten()]
    assert not activated(numbers).isfinite().any()


def test_the_sum_is_not_rounded():
    hidden, scale = torch.full((4096, 1), 3.015625).bfloat16(), torch.full((4096, 1), -0.50390625).bfloat16()
    at_src, total, scaled = np.full((4096, 1), 1.001, np.float32), *np.zeros((2, 1, 1), np.float32)
    programs.add_messages(bits(hidden), bits(scale), at_src, 4096, 0, total, scaled)
    assert total.item() == pytest.approx(4096 * 3.015625, rel=1e-4)
    assert scaled.item() == pytest.approx(4096 * -0.50390625 * 1.001, rel=1e-4)


@pytest.fixture
def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(40, 300), nn.ReLU(), nn.Linear(300, 30))


COMPILE = """
import numpy
from ninokit.nowcasters.kernels import numba_programs as programs
one, bits = numpy.ones((1, 1), numpy.float32), numpy.ones((1, 1), numpy.int16)
programs.add_messages_bits(bits, bits, one, 1, 0, one, one)
print(sum(programs.add_messages_bits.stats.cache_misses.values()))
"""


def test_another_process_need_not_compile_again(tmp_path):
    def misses() -> bytes:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True, capture_output=True).stdout

    assert [int(misses()) for _ in range(2)] == [1, 0]


def test_what_is_kept_is_called_with_one_type_of_arguments(mlp, cnn, history_of):
    """Of other types in other processes it could take the wrong place in the cache."""
    for model in (mlp, cnn):
        dict(Nino(16).forecast(ninokit.encode(model), history_of(model), 5))
        dict(Nino(8, context=3, layers=1).forecast(ninokit.encode(model), history_of(model, 3), 5))
    assert [len(program.signatures) for program in (programs.all_changes, programs.all_messages)] == [1, 1]


def test_nowhere_to_keep_what_is_compiled(monkeypatch):
    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available for file '…'")
        return compile_it(function, **options)

    compile_it = programs.numba.njit
    monkeypatch.setattr(programs.numba, "njit", njit)
    assert programs._kept(lambda number: 2 * number)(3) == 6


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
    monkeypatch.setattr(workers, "_EDGES_A_THREAD", 1)
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
        (Nino(16, precision="bfloat16"), OneDnnKernel),
        (Nino(16), BlasKernel),
        (Nino(16, precision="tf32"), BlasKernel),
        (Nino(16).double(), TensorKernel),
        (Nino(16, precision="bfloat16").double(), TensorKernel),
    ],
)
def test_choice_by_dtype(nino, kernel):
    needs_hardware(nino.precision)
    composition = composed(nino.requires_grad_(False), 1)
    assert type(kernels.make_kernel(composition, nino.precision)) is kernel


def test_choice_by_processor(monkeypatch):
    monkeypatch.setattr(onednn_kernel, "has_one_dnn", lambda *_: False)
    composition = Composition(Nino(16, precision="bfloat16"), {1}, torch.bfloat16)
    assert type(kernels.make_kernel(composition, "bfloat16")) is TensorKernel


def test_numba_is_not_installed(monkeypatch):
    assert has_numba()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not has_numba()


def test_no_blas_to_call(monkeypatch):
    monkeypatch.setattr(blas_kernel, "has_serial_blas", lambda: False)
    assert type(kernels.make_kernel(composed(Nino(16).requires_grad_(False), 1), "float32")) is TensorKernel
