"""What the picture of a graph shows, looked at through its figure, and the files that it is written to."""

from __future__ import annotations

import itertools
import sys
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import ninokit
from ninokit.errors import ConfigError, DependencyError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.colours import COLOURS
from ninokit.graph.plot import draw, plot

matplotlib = pytest.importorskip("matplotlib")
colors = pytest.importorskip("matplotlib.colors")


def cnn() -> nn.Module:
    return nn.Sequential(
        *[nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)],
    )


def transformer(layers: int = 2, size: int = 8) -> nn.Module:
    layer = nn.TransformerEncoderLayer(size, 2, 12, norm_first=True, batch_first=True)
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(size), enable_nested_tensor=False)


def long_names() -> nn.Module:
    layers = [nn.Linear(3, 3) for _ in range(6)]
    return nn.Sequential(OrderedDict((f"transformation_number_{n}", layer) for n, layer in enumerate(layers)))


def two_gates(size: int = 4) -> NeuralGraph:
    """Two dense blocks from a to b, and one from b to itself."""
    model = nn.ParameterDict({name: torch.zeros(size, size) for name in ("gate", "up", "again")})
    builder = GraphBuilder(model)
    a, b = builder.neurons("$a_1$", size), builder.neurons("b", size)
    for name, src in (("gate", a), ("up", a), ("again", b)):
        builder.edges(EdgeKind.LINEAR, src, b, parameter=name, axes="dst src")
    return builder.build()


@pytest.fixture(scope="module")
def network() -> NeuralGraph:
    return ninokit.encode(transformer())


def shown(figure, prefix: str) -> Counter[str]:
    """How often something with a ``gid`` is drawn."""
    artists = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(prefix))
    return Counter(artist.get_gid().removeprefix(prefix) for artist in artists)


def artist(figure, gid):
    (found,) = figure.findobj(lambda artist: artist.get_gid() == gid)
    return found


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("make", [cnn, transformer])
def test_every_group_and_every_pair_of_groups_is_shown_once(make):
    graph = ninokit.encode(make())
    figure = draw(graph)
    assert shown(figure, "neurons:") == dict.fromkeys((group.name for group in graph.neurons), 1)
    lines = {f"{block.src.name}→{block.dst.name}:{block.kind.name}" for block in graph.edges}
    assert set(shown(figure, "edges:")) == lines


def test_a_cnn_by_hand():
    figure = draw(ninokit.encode(cnn()))
    assert shown(figure, "edges:") == {
        "(input)→0:CONVOLUTION": 1,
        "1.weight→0:NORM_SCALE": 1,
        "1.bias→0:BIAS": 1,
        "0→5:LINEAR": 1,
        "5.bias→5:BIAS": 1,
    }
    assert legend(figure) == ["linear", "bias", "convolution", "norm scale"]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["(input)", "3", "0", "8", "5", "5"]
    assert figure.texts[0].get_text().startswith("neural graph: 19 neurons in 6 groups")


def test_the_legend_has_the_kinds_that_are_there_and_structural_ones_are_dashed(network):
    figure = draw(network)
    assert legend(figure) == ["linear", "bias", "norm scale", "query", "key", "value", "residual", "attention head"]
    styles = {line.get_label(): line.get_linestyle() for line in figure.legends[0].get_lines()}
    assert {label for label, style in styles.items() if style != "-"} == {"residual", "attention head"}
    for gid in shown(figure, "edges:"):
        kind = EdgeKind[gid.rpartition(":")[2]]
        for line in figure.findobj(lambda artist, gid=gid: artist.get_gid() == f"edges:{gid}"):
            colour = line.get_color() if hasattr(line, "get_color") else line.get_edgecolor()
            assert colors.to_hex(colour) == COLOURS[kind]
            assert (line.get_linestyle() == "--" or isinstance(line.get_linestyle(), tuple)) == kind.structural


def test_kinds_have_colours_of_their_own():
    assert set(COLOURS) == set(EdgeKind)
    rgb = {kind: np.array(colors.to_rgb(colour)) for kind, colour in COLOURS.items()}
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(rgb.values(), 2)) > 0.1


def test_circles_and_lines_grow_with_the_logarithm():
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 256))
    figure = draw(ninokit.encode(model))
    areas = [artist(figure, f"neurons:{name}").get_radius() ** 2 for name in ("(input)", "0", "2")]
    assert areas[2] - areas[1] == pytest.approx(4 / 3 * (areas[1] - areas[0]))  # 2, 16, 256: 3 and 4 doublings
    thin, thick = (artist(figure, f"edges:{gid}:LINEAR").get_linewidth() for gid in ("(input)→0", "0→2"))
    assert thick > thin


def test_blocks_of_one_kind_are_one_line_with_their_number_and_a_loop_is_a_ring():
    figure = draw(two_gates())
    assert shown(figure, "edges:") == {"$a_1$→b:LINEAR": 1, "b→b:LINEAR": 1}
    assert "×2" in [text.get_text() for text in figure.axes[0].texts]
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)
    assert type(artist(figure, "edges:b→b:LINEAR")).__name__ == "Circle"


def test_a_key_has_its_head_at_the_stream():
    model = nn.ParameterDict({"q": torch.zeros(4, 4), "k": torch.zeros(4, 4)})
    builder = GraphBuilder(model)
    stream, query = builder.neurons("stream", 4), builder.neurons("query", 4)
    builder.edges(EdgeKind.QUERY, stream, query, parameter="q", axes="dst src")
    builder.edges(EdgeKind.KEY, query, stream, parameter="k", axes="dst src")
    figure = draw(builder.build())
    heads = {
        colors.to_hex(patch.get_facecolor()): patch.get_xy()[0][0]
        for patch in figure.axes[0].patches
        if type(patch).__name__ == "Polygon"
    }
    left, right = (artist(figure, f"neurons:{name}") for name in ("stream", "query"))
    assert left.center[0] < heads[COLOURS[EdgeKind.KEY]] < left.center[0] + 1.1 * left.get_radius()
    assert right.center[0] - 1.1 * right.get_radius() < heads[COLOURS[EdgeKind.QUERY]] < right.center[0]


def test_rows_repeat_the_end_of_the_one_before():
    figure = draw(ninokit.encode(transformer(6)))
    again = shown(figure, "again:")
    assert len(again) >= 2
    for name in again:
        first, second = artist(figure, f"neurons:{name}").center, artist(figure, f"again:{name}").center
        assert second[1] < first[1]
        assert second[0] < first[0]


def test_only_what_leads_on_is_repeated():
    model = nn.ParameterDict({f"{name}{n}": torch.zeros(300, 300) for n in range(20) for name in ("on", "dead")})
    builder = GraphBuilder(model)
    before = builder.neurons("in", 300)
    for n in range(20):
        on, dead = (builder.neurons(f"layers.{n}.{name}", 300) for name in ("on", "dead"))
        for group, name in ((on, "on"), (dead, "dead")):
            builder.edges(EdgeKind.LINEAR, before, group, parameter=f"{name}{n}", axes="dst src")
        before = on
    again = shown(draw(builder.build()), "again:")
    assert again
    assert all(name.endswith(".on") for name in again)


def test_a_short_chain_is_one_row_and_a_longer_one_fills_its_rows():
    def rows(layers: int) -> list[int]:
        figure = draw(ninokit.encode(nn.Sequential(*[nn.Linear(200, 200, bias=False) for _ in range(layers)])))
        heights = [round(artist(figure, f"neurons:{name}").center[1], 6) for name in shown(figure, "neurons:")]
        return sorted(Counter(heights).values())

    assert rows(5) == [6]
    assert rows(12) == [3, 5, 5]  # rather than 6, 6 and 1


def test_a_small_network_has_its_adjacency_beside():
    figure = draw(ninokit.encode(nn.Linear(2, 3)))  # nodes: 2 inputs, 3 outputs, 1 bias
    blocks, adjacency = figure.axes
    image = adjacency.get_images()[0].get_array()
    expected = np.full((6, 6), "#ffffff", dtype=object)
    expected[:2, 2:5] = COLOURS[EdgeKind.LINEAR]
    expected[5, 2:5] = COLOURS[EdgeKind.BIAS]
    assert [[colors.to_hex(pixel / 255) for pixel in row] for row in np.asarray(image)] == expected.tolist()
    assert [line.get_ydata()[0] for line in adjacency.get_lines()[::2]] == [1.5, 4.5]
    assert [text.get_text() for text in adjacency.get_yticklabels()] == ["(input)", "(output)", "bias"]
    assert not blocks.axison


@pytest.mark.parametrize(("hidden", "panels"), [(399, 2), (400, 1)])
def test_a_large_network_has_no_adjacency(hidden, panels):
    assert len(draw(ninokit.encode(nn.Linear(1, hidden, bias=False))).axes) == panels


@pytest.mark.parametrize("make", [cnn, transformer, long_names, lambda: transformer(5, 256)])
def test_no_text_overlaps_another_or_leaves_the_picture(make):
    figure = draw(ninokit.encode(make()))
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    texts += [text for axes in figure.axes if axes.axison for text in axes.get_yticklabels()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    boxes += [("legend", figure.legends[0].get_window_extent())]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        wide, high = (
            min(first.x1, second.x1) - max(first.x0, second.x0),
            min(first.y1, second.y1) - max(first.y0, second.y0),
        )
        assert wide <= 0 or high <= 0, (one, other)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_suffix_is_the_format(tmp_path, network, suffix, start):
    path = tmp_path / f"graph{suffix}"
    assert network.plot(str(path)) == path
    content = path.read_bytes()
    assert content.startswith(start)
    assert len(content) > 5000


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_equal_graphs_have_equal_files(tmp_path, suffix):
    for name in ("first", "second"):
        plot(ninokit.encode(transformer(1)), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()


def test_the_users_settings_stay_and_do_not_matter(tmp_path, network):
    plot(network, tmp_path / "plain.svg")
    with matplotlib.rc_context({"font.size": 30, "font.family": "serif", "svg.hashsalt": "other"}):
        plot(network, tmp_path / "other.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


@pytest.mark.parametrize("name", ["graph.jpg", "graph", ".png"])
def test_other_suffixes_are_refused(network, name):
    with pytest.raises(ConfigError) as caught:
        network.plot(name)
    assert str(caught.value) == f"plot: expected a file name that ends in .png, .svg or .pdf; got {name!r}"


def test_a_file_that_cannot_be_written(tmp_path, network):
    path = tmp_path / "absent" / "graph.png"
    with pytest.raises(ConfigError) as caught:
        network.plot(path)
    assert str(caught.value) == (
        f"plot: {path} can't be written: No such file or directory. Name a file in a folder of yours"
    )


def test_without_matplotlib_the_error_says_what_to_install(network, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError) as caught:
        network.plot(tmp_path / "graph.png")
    assert str(caught.value) == (
        "the picture of a neural graph needs the package 'matplotlib', which does not import here "
        "(import of matplotlib halted; None in sys.modules). "
        'Install it with: pip install "ninokit[benchmarks]"'
    )
    assert list(tmp_path.iterdir()) == []
