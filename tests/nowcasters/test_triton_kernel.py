"""The fused kernels against those in tensor operators: interpreted on the CPU, compiled without a GPU, and on a GPU."""

import importlib.util
import itertools
import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ninokit
from ninokit.graph import EdgeKind
from ninokit.nowcasters import Nino, kernels
from ninokit.nowcasters.blocks import Block
from ninokit.nowcasters.composition import Composition
from ninokit.nowcasters.kernels import EdgeTile, TensorKernel
from ninokit.nowcasters.precision import product_dtype

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402

from ninokit.nowcasters.kernels import triton_kernel, triton_programs  # noqa: E402
from ninokit.nowcasters.kernels.triton_kernel import TritonKernel  # noqa: E402

# With the error that each is allowed, and the least that its rounding makes in a whole forecast.
PRECISIONS = {"float32": (1e-5, 0.0), "tf32": (1e-2, 1e-5), "bfloat16": (1e-2, 1e-5)}
POINTERS = {
    "states", "first", "weights", "from_dst", "from_src", "sums", "inner_bias", "outer", "outer_bias", "changes"
}  # fmt: skip
has_triton = kernels._has_triton.__wrapped__  # without its cache
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def tensor_core_product(builder, a, b, sums, input_precision, max_num_imprecise_acc):
    """The interpreter's product, with what hardware does to the operands: it takes bfloat16 for integers itself."""
    a, b = (rounded(operand, str(input_precision)) for operand in (a, b))
    return triton.runtime.interpreter.TensorHandle(a @ b + sums.data, sums.dtype.scalar)


def rounded(operand, input_precision):
    if operand.dtype == triton.language.bfloat16:
        return (operand.data.astype(np.uint32) << 16).view(np.float32)
    if "TF32" in input_precision:
        return (operand.data.view(np.uint32) & 0xFFFFE000).view(np.float32)
    return operand.data


def summed(rows, axis):
    """`triton.language.sum`, which was defined for the compiler."""
    return triton.language.reduce(rows, axis, triton.language.standard._sum_combine)


@pytest.fixture(scope="class")
def interpreted():
    """The programs once more, for the interpreter, and limits so low that small tiles take every path.

    Triton reads the switch where a function is defined, so its own module, imported before, stays compiled.
    """
    interpreter = importlib.import_module("triton.runtime.interpreter")
    if not hasattr(interpreter, "_LangPatchScope"):
        pytest.skip("this Triton's interpreter does not put its language back for the compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        specification = importlib.util.find_spec(triton_programs.__name__)
        programs = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(programs)
        patch.setattr(triton_kernel, "programs", programs)
        patch.setattr(triton.language, "sum", summed)
        patch.setattr(interpreter.InterpreterBuilder, "create_dot", tensor_core_product)
        patch.setattr(triton_kernel, "_MIN_EDGES", 1)
        patch.setattr(triton_kernel, "_MIN_SOURCES", 1)
        patch.setattr(triton_kernel, "_SOURCES", 64)
        patch.setattr(triton_kernel, "_BLOCK", 2**10)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the interpreter knows one program at a time
        torch.use_deterministic_algorithms(True)  # fills new memory with NaN
        yield
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)


def composed(nino: Nino, taps: int) -> Composition:
    return Composition(nino, {taps}, product_dtype(nino.precision, torch.float32, torch.device("cuda")))


def fused(composition: Composition, precision: str = "float32") -> TritonKernel:
    """A kernel that has nothing else to turn to."""
    return TritonKernel(composition, precision, otherwise=None)


def random_tile(shape: tuple[int, int, int]) -> EdgeTile:
    """Of width 16 and one tap, after one round."""
    group, dst, src = shape
    ends = [(torch.randn(group, dst, 16), torch.randn(group, src, 16))]
    return EdgeTile(EdgeKind.LINEAR, 1, torch.randn(*shape, 5), ends)


def relative_error(found, expected, history) -> float:
    """Of the step, over all parameters."""
    assert found.keys() == expected.keys()
    difference = sum((found[name] - expected[name]).double().square().sum() for name in expected)
    step = sum((expected[name] - history[name][-1]).double().square().sum() for name in expected)
    return float((difference / step).sqrt())


@st.composite
def tiles(draw, hidden: int, rounds: int) -> EdgeTile:
    """Ragged in all axes, with ends that slices have of their own, or share in either way of saying so."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 140))
    taps = draw(st.sampled_from([1, 3, 9]))
    ends = [draw(nodes(shape[0], size, hidden, rounds)) for size in shape[1:]]
    kind = draw(st.sampled_from(list(EdgeKind)))
    return EdgeTile(kind, taps, torch.randn(*shape, 5 * taps), list(zip(*ends, strict=True)))


@st.composite
def nodes(draw, groups: int, size: int, hidden: int, rounds: int) -> list[torch.Tensor]:
    """Features of nodes in each round, as slices of larger tensors."""
    shared = draw(st.sampled_from(["not", "by one slice", "by one slice, expanded"]))
    everything = torch.randn(rounds, groups if shared == "not" else 1, size + 3, hidden)[:, :, 2:-1]
    return list(everything.expand(-1, groups, -1, -1) if "expanded" in shared else everything)


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert (found - expected).double().norm() <= tolerance * expected.double().norm()


class TestInterpreted:
    pytestmark = pytest.mark.usefixtures("interpreted", "any_bfloat16")

    @settings(max_examples=12)
    @given(st.data(), st.integers(1, 3), st.sampled_from([16, 32, 64]), st.sampled_from(sorted(PRECISIONS)))
    def test_predictions_of_a_tile(self, data, layers, hidden, precision):
        tile = data.draw(tiles(hidden, layers))
        nino = Nino(hidden, layers=layers, precision=precision)
        expected = TensorKernel(Composition(nino, {tile.taps}, torch.float32)).changes(tile, horizon=7)
        found = fused(composed(nino, tile.taps), precision).changes(tile, horizon=7)
        assert_close(found, expected, PRECISIONS[precision][0])

    @settings(max_examples=12)
    @given(st.data(), st.integers(2, 3), st.sampled_from([16, 32, 64]), st.sampled_from(sorted(PRECISIONS)))
    def test_messages_of_a_tile(self, data, layers, hidden, precision):
        tile = data.draw(tiles(hidden, layers))
        index = data.draw(st.integers(1, layers - 1))
        (at_dst, at_src), tile = tile.ends[-1], replace(tile, ends=tile.ends[:index])
        nino = Nino(hidden, layers=layers, precision=precision)
        composition = Composition(nino, {tile.taps}, torch.float32)
        expected = TensorKernel(composition).messages(index, tile, at_dst, at_src)
        found = fused(composed(nino, tile.taps), precision).messages(index, tile, at_dst, at_src)
        assert_close(found, expected, PRECISIONS[precision][0])

    def test_each_slice_has_ends_of_its_own(self):
        composition, after_one = composed(Nino(16), 1), random_tile((3, 2, 70))
        at_dst, at_src = after_one.ends[0]
        after_two = replace(after_one, ends=[*after_one.ends, (2 * at_dst, 2 * at_src)])
        kernel, expected = fused(composition), TensorKernel(composition)
        assert_close(kernel.changes(after_two, 7), expected.changes(after_two, 7), 1e-5)
        found = kernel.messages(1, after_one, at_dst, at_src)
        assert_close(found, expected.messages(1, after_one, at_dst, at_src), 1e-5)

    @pytest.mark.parametrize("layers", [1, 2, 3])
    def test_a_whole_forecast(self, monkeypatch, cnn, history_of, layers):
        nino, graph, history = Nino(16, layers=layers), ninokit.encode(cnn), history_of(cnn)
        expected = dict(nino.forecast(graph, history, horizon=5))
        monkeypatch.setattr(kernels, "_has_triton", lambda device: True)
        found = dict(nino.forecast(graph, history, horizon=5))
        assert 0 < relative_error(found, expected, history) < 1e-5

    @pytest.mark.parametrize("precision", sorted(PRECISIONS))
    def test_with_the_published_weights(self, monkeypatch, shared_folder, cnn, history_of, precision):
        monkeypatch.setattr(triton_kernel, "_BLOCK", 2**13)
        nino = ninokit.nowcasters.load(shared_folder / "weights" / "nino_no_posw.pt")
        graph, history = ninokit.encode(cnn), history_of(cnn)
        expected = dict(nino.forecast(graph, history, horizon=40))
        monkeypatch.setattr(kernels, "_has_triton", lambda device: True)
        nino.precision = precision
        most, least = PRECISIONS[precision]
        assert least <= relative_error(dict(nino.forecast(graph, history, horizon=40)), expected, history) < most


@pytest.fixture
def launches(monkeypatch) -> list[dict]:
    """Arguments of the programs, which do not run."""
    launches = []

    class Program:
        def __init__(self, program) -> None:
            self.names = program.arg_names

        def __getitem__(self, grid):
            return lambda *values, **named: launches.append({**dict(zip(self.names, values, strict=False)), **named})

    programs = {name: Program(getattr(triton_programs, name)) for name in triton_programs.__all__}
    monkeypatch.setattr(triton_kernel, "programs", SimpleNamespace(**programs))
    return launches


class TestWhichTiles:
    """Those for which a launch does not pay go to the kernel in tensor operators."""

    @pytest.mark.parametrize(
        ("shape", "messages", "changes"),
        [
            ((1, 256, 16), "fused", "fused"),
            ((64, 4, 16), "fused", "fused"),
            ((1, 1, 4096), "fused", "fused"),
            ((1, 512, 15), "in operators", "fused"),
            ((1, 273, 15), "in operators", "in operators"),
            ((1, 1, 4095), "in operators", "in operators"),
        ],
    )
    def test_by_shape(self, launches, shape, messages, changes):
        tile, otherwise = random_tile(shape), Mock()
        kernel = TritonKernel(composed(Nino(16), 1), "float32", otherwise)
        for method, arguments, expected in [
            ("messages", (1, tile, *tile.ends[0]), messages),
            ("changes", (replace(tile, ends=2 * tile.ends), 1), changes),
        ]:
            launches.clear()
            getattr(kernel, method)(*arguments)
            assert len(launches) == (expected == "fused")
            assert getattr(otherwise, method).call_count == (expected == "in operators")

    def test_none_in_the_first_round(self, launches):
        tile, otherwise = random_tile((1, 256, 256)), Mock()
        at_dst, at_src = tile.ends[0]
        tile = replace(tile, ends=[])
        found = TritonKernel(composed(Nino(16), 1), "float32", otherwise).messages(0, tile, at_dst, at_src)
        otherwise.messages.assert_called_once_with(0, tile, at_dst, at_src)
        assert found is otherwise.messages.return_value
        assert not launches


class TestTiles:
    @pytest.mark.parametrize(
        ("sources", "taps", "tiles"),
        [(256, 1, 8), (50_257, 1, 8), (100, 1, 3), (32, 1, 1), (31, 1, 1), (256, 4, 2), (256, 9, 1)],
    )
    def test_a_large_tile_has_few_numbers(self, sources, taps, tiles):
        block = Block(EdgeKind.LINEAR, slice(0, 2**20), slice(0, sources), (1, 2**20, sources), taps)
        assert fused(composed(Nino(16), 1)).tiles_at_once(block) == tiles
        for tile in itertools.islice(block.tiles(tiles * 2**17, 2**17), 3):
            edges = math.prod(tile.shape)
            # Of hidden width 128; what the first round makes of many sources is a product a destination and feature.
            hidden = 128 * (edges if sources < 32 else tile.shape[1] * taps * 5)
            assert 4 * max(edges * taps * 5, hidden) <= 2**26  # bytes


class TestLaunches:
    @pytest.mark.parametrize(
        ("precision", "dtype", "products"),
        [
            ("float32", torch.float32, "ieee"),
            ("tf32", torch.float32, "tf32"),
            ("bfloat16", torch.bfloat16, "ieee"),
        ],
    )
    def test_only_the_large_products_are_rounded(self, launches, precision, dtype, products):
        tile = random_tile((1, 256, 16))
        kernel = fused(composed(Nino(16, precision=precision), 1), precision)
        kernel.messages(1, tile, *tile.ends[0])
        kernel.changes(replace(tile, ends=2 * tile.ends), horizon=1)
        for launch in launches:
            tensors = {name: value.dtype for name, value in launch.items() if isinstance(value, torch.Tensor)}
            assert tensors.pop("weights") == dtype
            assert set(tensors.values()) == {torch.float32}
            assert launch["PRECISION"] == products
        assert len(launches) == 2

    def test_a_shared_end_is_not_copied_to_every_slice(self, launches):
        tile = random_tile((8, 4, 128))
        (dst, src) = (end[:1].expand(8, -1, -1) for end in tile.ends[0])
        fused(composed(Nino(16), 1)).messages(1, replace(tile, ends=[(dst, src)]), dst, src)
        assert launches[0]["from_dst"].shape == (1, 1, 4, 16)
        assert launches[0]["from_src"].shape == (2, 1, 128, 16)


class TestChoice:
    @pytest.fixture(autouse=True)
    def _no_numba(self, monkeypatch):
        monkeypatch.setattr(kernels, "_has_numba", lambda: False)

    @pytest.mark.parametrize(
        ("nino", "kernel"),
        [
            (Nino(16), TritonKernel),
            (Nino(256), TritonKernel),
            (Nino(16, precision="bfloat16"), TritonKernel),
            (Nino(8), TensorKernel),
            (Nino(24), TensorKernel),
            (Nino(512), TensorKernel),
            (Nino(16).double(), TensorKernel),
        ],
    )
    def test_by_width_and_dtype(self, monkeypatch, nino, kernel):
        monkeypatch.setattr(kernels, "_has_triton", lambda device: True)
        assert type(kernels.make_kernel(composed(nino, 1), nino.precision)) is kernel

    def test_no_triton_on_the_cpu(self):
        assert type(kernels.make_kernel(composed(Nino(16), 1), "float32")) is TensorKernel

    @pytest.fixture
    def gpu(self, monkeypatch) -> torch.device:
        """A machine with an NVIDIA GPU, a CUDA build of torch, and Triton."""
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        self.start_driver(monkeypatch, lambda: None)
        return torch.device("cuda", 0)

    @staticmethod
    def start_driver(monkeypatch, function) -> None:
        driver = SimpleNamespace(active=SimpleNamespace(get_current_target=function))
        monkeypatch.setattr(triton.runtime, "driver", driver)

    def test_a_gpu(self, gpu):
        assert has_triton(gpu)

    def test_too_old_a_gpu(self, gpu, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert not has_triton(gpu)

    def test_a_gpu_of_another_maker(self, gpu, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", None)
        assert not has_triton(gpu)

    def test_triton_is_not_installed(self, gpu, monkeypatch, caplog):
        monkeypatch.setitem(sys.modules, "triton", None)
        assert not has_triton(gpu)
        assert not caplog.messages

    def test_triton_is_too_old(self, gpu, monkeypatch):
        monkeypatch.delattr(triton.language, "gather")
        assert not has_triton(gpu)

    def test_triton_cannot_compile(self, gpu, monkeypatch, caplog):
        def fail():
            raise RuntimeError("Failed to find C compiler.")

        self.start_driver(monkeypatch, fail)
        assert not has_triton(gpu)
        assert caplog.messages == [
            "Triton does not start, so forecasts on cuda:0 use slower kernels: Failed to find C compiler."
        ]


class TestCompiled:
    """What the interpreter runs, the compiler may still refuse."""

    @pytest.mark.parametrize("precision", sorted(PRECISIONS))
    @pytest.mark.parametrize("program", [triton_programs.sum_sources, triton_programs.predict_edges])
    def test_without_a_gpu(self, monkeypatch, tmp_path, program, precision):
        if "nvidia" not in triton.backends.backends:
            pytest.skip("this Triton has no NVIDIA backend")
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
        kernel = fused(composed(Nino(128, precision=precision), 1), precision)
        options = dict(kernel._settings)
        launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
        constants = {**options, "ROUNDS": 2, "SOURCES": triton_kernel._SOURCES}
        constants = {name: constants[name] for name in program.arg_names if name in constants}
        signature = {name: "*fp32" if name in POINTERS else "i32" for name in program.arg_names}
        signature |= dict.fromkeys(constants, "constexpr")
        signature["weights"] = "*bf16" if precision == "bfloat16" else "*fp32"
        source = triton.compiler.ASTSource(program, signature, constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=launch)
        assert compiled.metadata.shared <= 48 * 1024  # bytes that every GPU gives a program


@needs_cuda
@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_whole_forecast_on_a_gpu(history_of, precision, layers):
    nino = Nino(layers=layers)
    model = nn.Sequential(nn.Conv2d(3, 70, 3), nn.Conv2d(70, 130, 3), nn.Flatten(), nn.Linear(130, 300))
    graph, history = ninokit.encode(model), history_of(model)
    expected = dict(nino.forecast(graph, history, horizon=40))
    nino.to("cuda").precision = precision
    kernel = TritonKernel if torch.cuda.get_device_capability() >= (8, 0) else TensorKernel
    assert type(kernels.make_kernel(composed(nino, 1), precision)) is kernel
    found = {name: prediction.cpu() for name, prediction in nino.forecast(graph, history, horizon=40)}
    assert relative_error(found, expected, history) < PRECISIONS[precision][0]
