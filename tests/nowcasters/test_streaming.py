"""The streamed forecast against the same function in DGL message passing."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ninokit
from ninokit.errors import ConfigError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.nowcasters import Nino, Wnn, streaming, workers
from ninokit.nowcasters import precision as precisions
from ninokit.nowcasters.blocks import Block
from ninokit.nowcasters.kernels import products
from ninokit.nowcasters.precision import float32_products

PARAMETER_KINDS = [kind for kind in EdgeKind if not kind.structural and kind is not EdgeKind.PADDING]
# Readings of a parameter as (group, dst, src, tap), with the order of its axes.
LAYOUTS = {
    "(group dst) src tap": lambda g, d, s, t: (g * d, s, t),
    "(group src) dst tap": lambda g, d, s, t: (g * s, d, t),
    "group dst (src tap)": lambda g, d, s, t: (g, d, s * t),
    "group src dst tap": lambda g, d, s, t: (g, s, d, t),
    "tap group dst src": lambda g, d, s, t: (t, g, d, s),
}


@st.composite
def networks(draw) -> tuple[nn.Module, NeuralGraph]:
    """Random groups and random blocks between them: dense, grouped, diagonal, structural, of 1 to 20 taps."""
    model = nn.Module()
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 12, 20, 40]), min_size=2, max_size=4))
    pairs = st.tuples(*[st.integers(0, len(sizes) - 1)] * 2)
    plans = []
    for index, (src, dst) in enumerate(draw(st.lists(pairs, min_size=1, max_size=5))):
        shared = draw(st.sampled_from([None, "src", "dst"]))
        common = {None: math.gcd(sizes[src], sizes[dst]), "src": sizes[dst], "dst": sizes[src]}[shared]
        groups = draw(st.sampled_from([n for n in range(1, common + 1) if common % n == 0]))
        taps, axes = draw(st.integers(1, 20)), draw(st.sampled_from(sorted(LAYOUTS)))
        if shared is not None and "(group" in axes:  # the shared end has no slices to stand beside
            axes = "group dst (src tap)"
        plans.append((src, dst, groups, shared, taps, axes, index))
    for src, dst, groups, shared, taps, axes, index in plans:
        per_slice = [sizes[end] // (1 if name == shared else groups) for name, end in (("dst", dst), ("src", src))]
        shape = LAYOUTS[axes](groups, *per_slice, taps)
        model.register_parameter(f"p{index}", nn.Parameter(torch.randn(shape)))
    builder = GraphBuilder(model)
    neurons = [builder.neurons(f"n{index}", size) for index, size in enumerate(sizes)]
    for src, dst, groups, shared, _, axes, index in plans:
        kind = draw(st.sampled_from(PARAMETER_KINDS))
        ends = neurons[src], neurons[dst]
        builder.edges(kind, *ends, parameter=f"p{index}", axes=axes, groups=groups, shared=shared)
        if draw(st.booleans()):
            builder.edges(EdgeKind.RESIDUAL, neurons[dst], neurons[src], groups=1 if shared else groups)
    return model, builder.build()


def relative_error(found, expected, history) -> float:
    """Of the step, over all parameters."""
    assert found.keys() == expected.keys()
    difference = sum((found[name] - expected[name]).double().square().sum() for name in expected)
    step = sum((expected[name] - history[name][-1]).double().square().sum() for name in expected)
    return float((difference / step).sqrt())


@pytest.mark.usefixtures("dgl_installed")
@settings(max_examples=40)
@given(networks(), st.sampled_from([1, 3]), st.sampled_from([1, 7, 64, 4096]), st.integers(1, 40))
def test_it_is_the_function_in_message_passing(network, layers, tile, horizon):
    model, graph = network
    nino = Nino(hidden=8, layers=layers).double()
    history = {name: torch.randn(5, *p.shape, dtype=torch.float64) for name, p in model.named_parameters()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(streaming._TILE_EDGES, "cpu", tile)
        found = dict(nino.forecast(graph, history, horizon))
    expected = dict(nino.forecast_with_dgl(graph, history, horizon))
    assert relative_error(found, expected, history) < 1e-10


@pytest.mark.usefixtures("dgl_installed")
@settings(max_examples=40)
@given(networks(), st.sampled_from([("float32", 1e-5), ("tf32", 1e-5), ("bfloat16", 1e-2)]), st.integers(1, 40))
def test_precisions(network, precision, horizon):
    model, graph = network
    name, tolerance = precision
    torch.manual_seed(0)
    nino = Nino(hidden=32, precision=name)
    history = {name: torch.randn(5, *p.shape) for name, p in model.named_parameters()}
    found = dict(nino.forecast(graph, history, horizon))
    expected = dict(nino.double().forecast_with_dgl(graph, {name: x.double() for name, x in history.items()}, horizon))
    assert relative_error(found, expected, history) < tolerance


@pytest.mark.usefixtures("any_bfloat16")
def test_bfloat16_rounds_the_products(cnn, history_of):
    nino, graph, history = Nino(hidden=32), ninokit.encode(cnn), history_of(cnn)
    exact = dict(nino.forecast(graph, history, 5))
    nino.precision = "bfloat16"
    rounded = dict(nino.forecast(graph, history, 5))
    assert {x.dtype for x in rounded.values()} == {torch.float32}
    assert 1e-4 < relative_error(rounded, exact, history) < 1e-2


@pytest.mark.usefixtures("any_bfloat16")
def test_small_steps_survive_bfloat16(cnn, history_of):
    """Rounded states would bury changes of a thousandth; rounded hidden features only blur them."""
    nino, graph = Nino(hidden=64), ninokit.encode(cnn)
    last = {name: x[-1] for name, x in history_of(cnn).items()}
    torch.manual_seed(1)
    history = {n: x + 1e-3 * torch.randn(5, *x.shape) for n, x in last.items()}
    exact = dict(nino.forecast(graph, history, 5))
    nino.precision = "bfloat16"
    assert relative_error(dict(nino.forecast(graph, history, 5)), exact, history) < 1e-2


def test_bfloat16_without_instructions_for_it_is_float32(cnn, history_of, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    fresh = cache(precisions.multiplies_bfloat16.__wrapped__)
    monkeypatch.setattr(precisions, "multiplies_bfloat16", fresh)
    monkeypatch.setattr(products, "multiplies_bfloat16", fresh)
    nino, graph, history = Nino(hidden=16), ninokit.encode(cnn), history_of(cnn)
    exact = dict(nino.forecast(graph, history, 5))
    nino.precision = "bfloat16"
    for _ in range(2):
        assert all(torch.equal(x, exact[name]) for name, x in nino.forecast(graph, history, 5))
    assert caplog.messages == [
        "this processor has no products in bfloat16; forecasts with precision='bfloat16' compute as exactly as with "
        "'float32', and take as long"
    ]


def test_precision_of_a_loaded_nowcaster(shared_folder):
    path = shared_folder / "weights" / "nino_no_posw.pt"
    assert ninokit.nowcasters.load(path).precision == "float32"
    assert ninokit.nowcasters.load(path, precision="bfloat16").precision == "bfloat16"
    with pytest.raises(ConfigError, match="precision: expected one of"):
        ninokit.nowcasters.load(path, precision="int8")


def test_precision_where_there_is_no_choice():
    with pytest.raises(ConfigError) as error:
        ninokit.nowcasters.load("linefit", precision="bfloat16")
    assert str(error.value) == "precision: 'linefit' has no choice of one, got 'bfloat16'; leave it out"


def test_unknown_precision():
    with pytest.raises(ConfigError) as error:
        Nino(precision="float16")
    assert str(error.value) == "precision: expected one of ['float32', 'tf32', 'bfloat16'], got 'float16'"


@pytest.mark.usefixtures("dgl_installed")
@pytest.mark.parametrize("horizon", [1, 17, 40])
def test_in_float32_with_the_published_weights(shared_folder, cnn, history_of, horizon):
    nino = ninokit.nowcasters.load(shared_folder / "weights" / "nino_no_posw.pt")
    wide = nn.Sequential(nn.Linear(40, 300), nn.ReLU(), nn.Linear(300, 30))
    for model in (cnn, wide):
        graph, history = ninokit.encode(model), history_of(model)
        found = dict(nino.forecast(graph, history, horizon))
        expected = dict(nino.forecast_with_dgl(graph, history, horizon))
        assert relative_error(found, expected, history) < 1e-5


@pytest.fixture
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restored_threads")
def test_same_inputs_same_bits_on_any_number_of_threads(cnn, history_of, monkeypatch):
    monkeypatch.setattr(workers, "_EDGES_A_THREAD", 1)
    monkeypatch.setitem(streaming._TILE_EDGES, "cpu", 32)
    nino, graph, history = Nino(hidden=16), ninokit.encode(cnn), history_of(cnn)
    found = []
    for threads in (1, 1, 2, 5):
        torch.set_num_threads(threads)
        found.append(dict(nino.forecast(graph, history, 5)))
        assert torch.get_num_threads() == threads
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in found[0])


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("nowcaster", [Nino(hidden=16), Wnn(hidden=16)], ids=["nino", "wnn"])
@pytest.mark.parametrize(
    "mode", [torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)], ids=["inference", "autocast"]
)
def test_the_callers_mode_makes_no_difference(cnn, history_of, nowcaster, mode, threads, monkeypatch):
    monkeypatch.setattr(workers, "_EDGES_A_THREAD", 1)
    torch.set_num_threads(threads)
    graph, history = ninokit.encode(cnn), history_of(cnn)
    expected = dict(nowcaster.forecast(graph, history, 5))
    with mode:
        found = dict(nowcaster.forecast(graph, history, 5))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_states_whose_memory_a_view_can_not_merge(history_of):
    model = nn.Conv2d(3, 4, 3)
    nino, graph, history = Nino(hidden=8), ninokit.encode(model), history_of(model)
    turned = {n: x.mT.contiguous().mT if x.ndim == 5 else x for n, x in history.items()}
    plain, other = (dict(nino.forecast(graph, h, 5)) for h in (history, turned))
    torch.testing.assert_close(plain, other)


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "tf32"), ("float32", "ieee")])
def test_products_on_a_gpu_are_as_asked_for_and_the_programs_setting_stays(precision, inside):
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has the older switch")
    before = matmul.fp32_precision
    with float32_products(precision, torch.device("cuda")):
        assert matmul.fp32_precision == inside
    assert matmul.fp32_precision == before
    with float32_products(precision, torch.device("cpu")):
        assert matmul.fp32_precision == before


@pytest.mark.usefixtures("dgl_installed", "any_bfloat16")
def test_without_one_dnn(cnn, history_of, monkeypatch):
    monkeypatch.setattr(products, "has_one_dnn", lambda *_: False)
    nino, graph, history = Nino(hidden=16), ninokit.encode(cnn), history_of(cnn)
    expected = dict(nino.forecast_with_dgl(graph, history, 5))
    assert relative_error(dict(nino.forecast(graph, history, 5)), expected, history) < 1e-5
    nino.precision = "bfloat16"
    assert relative_error(dict(nino.forecast(graph, history, 5)), expected, history) < 1e-2


def test_parameters_in_another_memory_layout(history_of):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)).to(memory_format=torch.channels_last)
    nino, graph, history = Nino(hidden=8), ninokit.encode(model), history_of(model)
    mixed = {name: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) if x.ndim == 5 else x
             for name, x in history.items()}  # fmt: skip
    plain, other = (dict(nino.forecast(graph, h, 5)) for h in (history, mixed))
    torch.testing.assert_close(plain, other)


@pytest.mark.usefixtures("restored_threads")
def test_no_feature_vector_an_edge(history_of):
    """The largest tensor that the forecast makes grows with neurons and the tile, not with edges."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                self.elements = max(self.elements, result.numel())
            return result

    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256))
    hidden, graph, history = 64, ninokit.encode(model), history_of(model)
    nino = Nino(hidden=hidden)
    graph.positions  # noqa: B018  (computed once, before the forecast)
    torch.set_num_threads(1)  # a mode sees the operators of its own thread
    with Largest() as largest:
        dict(nino.forecast(graph, history, 5))
    tile = hidden * streaming._TILE_EDGES["cpu"] * 4
    states = 5 * max(shape.numel() for shape in graph.parameters.values())
    assert largest.elements <= max(tile, states, 2 * hidden * graph.num_nodes)
    assert largest.elements < hidden * graph.num_edges / 8


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 100), st.integers(1, 100))
def test_tiles_cover_a_block_once_and_have_few_edges_and_ends(shape, edges, ends):
    block = Block(EdgeKind.LINEAR, slice(0, 1), slice(0, 1), shape)
    times = torch.zeros(shape, dtype=torch.int64)
    for tile in block.tiles(edges, ends):
        times[tile.window] += 1
        group, dst, src = tile.shape
        assert group * dst * src <= edges
        assert group * dst <= ends
        assert group * src <= ends
    assert (times == 1).all()


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 100), st.integers(1, 100), st.integers(1, 3))
def test_a_job_has_the_tiles_in_order_and_few_destinations(shape, edges, ends, threads):
    """Its messages, a vector a destination, wait in memory."""
    block = Block(EdgeKind.LINEAR, slice(0, 1), slice(0, 1), shape)
    runs = list(block.runs(edges, ends, threads))
    assert [tile for run in runs for tile in run] == list(block.tiles(edges, ends))
    assert all(sum(tile.shape[0] * tile.shape[1] for tile in run) <= ends for run in runs)
