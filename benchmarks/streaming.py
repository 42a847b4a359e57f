"""Seconds and memory of a NiNo forecast, streamed and in DGL message passing, from 15 thousand to 125 million weights.

    python benchmarks/streaming.py --out benchmarks/results

Every measurement is a process of its own, so that its peak memory is its own. The same run measures the machine's
matrix-product rate; the share of it that a forecast reaches counts 50,000 multiply-adds an edge (three products of
128 × 128), whatever the forecast really computes. Writes streaming.json, streaming.md and streaming.png.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

import ninokit
from ninokit.benchmarks.report import describe_environment, write_text
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.graph.tables import format_table
from ninokit.nowcasters import Nino

MULTIPLY_ADDS_AN_EDGE = 50_000
HORIZON = 40
DGL_EDGES = 500_000  # more would take minutes and gigabytes


def small_cnn() -> NeuralGraph:
    convolutions = [nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 3)]
    return ninokit.encode(nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)))


def mlp(*widths: int) -> NeuralGraph:
    with torch.device("meta"):
        return ninokit.encode(nn.Sequential(*map(nn.Linear, widths[:-1], widths[1:])))


def resnet50_sized_chain() -> NeuralGraph:
    """The 1×1 and 3×3 convolutions of a ResNet-50, one after another, without its shortcuts."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7)]
    with torch.device("meta"):
        for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for _ in range(blocks):
                inputs = layers[-1].out_channels
                layers += [nn.Conv2d(inputs, width, 1), nn.Conv2d(width, width, 3), nn.Conv2d(width, 4 * width, 1)]
        return ninokit.encode(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)))


def gpt2(width: int, layers: int, vocabulary: int = 50_257, context: int = 1024) -> NeuralGraph:
    """The shapes of GPT-2, with its real vocabulary; heads of 64."""
    shapes = {"wte": (vocabulary, width), "wpe": (context, width)}
    for layer in range(layers):
        shapes |= {f"{layer}.{name}": (width,) for name in ("ln1.w", "ln1.b", "ln2.w", "ln2.b", "proj.b", "down.b")}
        shapes |= {f"{layer}.qkv.w": (width, 3 * width), f"{layer}.qkv.b": (3 * width,)}
        shapes |= {f"{layer}.proj.w": (width, width), f"{layer}.up.w": (width, 4 * width)}
        shapes |= {f"{layer}.up.b": (4 * width,), f"{layer}.down.w": (4 * width, width)}
    builder = GraphBuilder(_holding(shapes))
    stream = builder.neurons("stream", width)
    for name, size, kind in (
        ("wte", vocabulary, EdgeKind.TOKEN_EMBEDDING),
        ("wpe", context, EdgeKind.POSITION_EMBEDDING),
    ):
        builder.edges(kind, builder.neurons(f"{name}.rows", size), stream, parameter=name, axes="src dst")
    for layer in range(layers):
        stream = _add_transformer_layer(builder, f"{layer}", stream, width)
    return builder.build()


def _add_transformer_layer(builder: GraphBuilder, name: str, stream: Any, width: int) -> Any:
    heads = builder.neurons(f"{name}.heads", width // 64)
    parts = {part: builder.neurons(f"{name}.{part}", width) for part in ("query", "value", "attended", "out")}
    inner = builder.neurons(f"{name}.inner", 4 * width)
    builder.vector(EdgeKind.NORM_SCALE, stream, parameter=f"{name}.ln1.w")
    builder.vector(EdgeKind.BIAS, stream, parameter=f"{name}.ln1.b")
    ends = ((stream, parts["query"]), (parts["query"], stream), (stream, parts["value"]))
    for index, (kind, (src, dst)) in enumerate(zip((EdgeKind.QUERY, EdgeKind.KEY, EdgeKind.VALUE), ends, strict=True)):
        window = (index * width, (index + 1) * width)
        axes = "dst src" if kind is EdgeKind.KEY else "src dst"
        builder.edges(kind, src, dst, parameter=f"{name}.qkv.w", axes=axes, window={1: window})
        acted_on = parts["value"] if kind is EdgeKind.VALUE else parts["query"]
        node = builder.neurons(f"{name}.qkv.b.{kind.name}", 1)
        builder.edges(EdgeKind.BIAS, node, acted_on, parameter=f"{name}.qkv.b", axes="dst", window={0: window})
    for part in ("query", "value"):
        builder.edges(EdgeKind.ATTENTION_HEAD, heads, parts[part], groups=heads.size)
    builder.edges(EdgeKind.LINEAR, parts["value"], parts["attended"], parameter=f"{name}.proj.w", axes="src dst")
    builder.vector(EdgeKind.BIAS, parts["attended"], parameter=f"{name}.proj.b")
    builder.edges(EdgeKind.RESIDUAL, stream, parts["attended"], groups=width)
    builder.vector(EdgeKind.NORM_SCALE, parts["attended"], parameter=f"{name}.ln2.w")
    builder.vector(EdgeKind.BIAS, parts["attended"], parameter=f"{name}.ln2.b")
    builder.edges(EdgeKind.LINEAR, parts["attended"], inner, parameter=f"{name}.up.w", axes="src dst")
    builder.vector(EdgeKind.BIAS, inner, parameter=f"{name}.up.b")
    builder.edges(EdgeKind.LINEAR, inner, parts["out"], parameter=f"{name}.down.w", axes="src dst")
    builder.vector(EdgeKind.BIAS, parts["out"], parameter=f"{name}.down.b")
    builder.edges(EdgeKind.RESIDUAL, parts["attended"], parts["out"], groups=width)
    return parts["out"]


def _holding(shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    """A module whose parameters have these names and shapes, and no memory."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta")))
    return root


CASES: dict[str, Callable[[], NeuralGraph]] = {
    "CNN, FM-16": small_cnn,
    "MLP 784-128-10": lambda: mlp(784, 128, 10),
    "MLP 784-512-10": lambda: mlp(784, 512, 10),
    "MLP 4 × 1024": lambda: mlp(1024, 1024, 1024, 1024),
    "ResNet-50-sized chain": resnet50_sized_chain,
    "GPT-2 shapes, 30 M": lambda: gpt2(384, 6),
    "GPT-2 shapes, 124 M": lambda: gpt2(768, 12),
}


def measure(case: str, form: str) -> dict[str, Any]:
    """One forecast of random weights and a random nowcaster, in this process."""
    graph = CASES[case]()
    torch.manual_seed(0)
    history = {name: torch.randn(5, *shape) for name, shape in graph.parameters.items()}
    nino = Nino().requires_grad_(False)
    graph.positions  # noqa: B018  (once a network, not once a forecast)
    _warm_up(nino, form)
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    _consume(_form(nino, form), graph, history)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = matrix_product_rate()
    return {
        "case": case,
        "form": form,
        "parameters": graph.num_parameters,
        "edges": graph.num_edges,
        "neurons": graph.num_nodes,
        "seconds": seconds,
        "peak_extra_megabytes": max(0, peak - before) / 2**20,
        "matrix_product_rate": rate,
        "share_of_rate": graph.num_edges * MULTIPLY_ADDS_AN_EDGE / seconds / rate,
    }


def _warm_up(nino: Nino, form: str) -> None:
    """A tiny forecast: what loads on first use is not a forecast's cost."""
    graph = mlp(4, 4)
    history = {name: torch.randn(5, *shape) for name, shape in graph.parameters.items()}
    _consume(_form(nino, form), graph, history)


def _form(nino: Nino, form: str) -> Callable[..., Any]:
    return nino.forecast if form == "streamed" else nino.forecast_with_dgl


def _consume(forecast: Callable[..., Any], graph: NeuralGraph, history: dict[str, torch.Tensor]) -> None:
    """Take the predictions one by one, as write-back does, and keep none."""
    for _ in forecast(graph, history, HORIZON):
        pass


def matrix_product_rate(size: int = 2048, repeats: int = 5) -> float:
    """Multiply-adds a second of large float32 products, the best of several."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    best = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        best = max(best, size**3 / (time.perf_counter() - started))
    return best


def measurements(cases: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for case in cases:
        for form in ("streamed", "DGL"):
            if form == "DGL" and CASES[case]().num_edges > DGL_EDGES:
                continue
            command = [sys.executable, __file__, "--measure", case, form]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(f"{case} {form}: {found[-1]['seconds']:.2f} s", file=sys.stderr)
    return found


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    header = ["network", "form", "weights", "edges", "seconds", "s / M edges", "share of rate", "peak MB"]
    body = [
        [
            row["case"],
            row["form"],
            f"{row['parameters']:,}",
            f"{row['edges']:,}",
            f"{row['seconds']:.3f}",
            f"{row['seconds'] / row['edges'] * 1e6:.2f}",
            f"{row['share_of_rate']:.0%}",
            f"{row['peak_extra_megabytes']:.0f}",
        ]
        for row in rows
    ]
    return format_table(header, body)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2)
    units = (("seconds", "seconds a forecast"), ("peak_extra_megabytes", "extra memory at the peak (MB)"))
    for panel, (key, label) in zip(panels, units, strict=True):
        for form, colour in (("streamed", "#0072B2"), ("DGL", "#D55E00")):
            points = sorted((row["edges"], row[key]) for row in rows if row["form"] == form and row[key] > 0)
            panel.loglog(*zip(*points, strict=True), marker="o", color=colour, label=form)
        panel.set_xlabel("edges")
        panel.set_ylabel(label)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    figure.suptitle("A NiNo forecast, hidden 128, float32")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "FORM"), help="one measurement, printed as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    rows = measurements(options.cases)
    environment = describe_environment("cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "streaming.json", json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
    machine = ", ".join(f"{key} {value}" for key, value in environment.items() if value is not None)
    table = f"```\n{as_table(rows)}\n```\n\n{machine}.\n"
    write_text(options.out / "streaming.md", f"# A NiNo forecast, streamed and in DGL message passing\n\n{table}")
    plot(rows, options.out / "streaming.png")
    print(as_table(rows))


if __name__ == "__main__":
    main()
