"""Seconds and memory of a NiNo forecast, streamed and in DGL message passing, from 15 thousand to a billion weights.

    python benchmarks/streaming.py                   # on the processor, into benchmarks/results
    python benchmarks/streaming.py --device cuda     # on a GPU, with TF32 and the billion weights besides

On a processor every measurement is a process of its own, so that its peak memory is its own; on a GPU, whose allocator
knows its peak, one process does all, and a forecast is timed after one that compiled its kernels. Seconds are the
median of the forecasts that fit into two seconds, or those of the only one. The same process measures the machine's
matrix-product rate in the same precision; the share of it that a forecast reaches counts 50,000 multiply-adds an edge
(three products of 128 × 128), whatever the forecast really computes. Writes streaming-DEVICE.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from shapes import gpt2, llama, mlp, resnet50_sized_chain, small_cnn

from ninokit.benchmarks.report import describe_environment, write_text
from ninokit.graph import NeuralGraph
from ninokit.graph.tables import format_table
from ninokit.nowcasters import Nino
from ninokit.nowcasters.precision import float32_products, multiplies_bfloat16

MULTIPLY_ADDS_AN_EDGE = 50_000
HORIZON = 40
ENOUGH_SECONDS = 2
DGL_EDGES = 500_000  # more would take minutes and gigabytes
BILLION = "Llama shapes, 1.2 B"
FORMS = {"cpu": ("float32", "bfloat16", "DGL"), "cuda": ("float32", "tf32", "bfloat16")}

CASES: dict[str, Callable[[], NeuralGraph]] = {
    "CNN, FM-16": small_cnn,
    "MLP 784-128-10": lambda: mlp(784, 128, 10),
    "MLP 784-512-10": lambda: mlp(784, 512, 10),
    "MLP 4 × 1024": lambda: mlp(1024, 1024, 1024, 1024),
    "ResNet-50-sized chain": resnet50_sized_chain,
    "GPT-2 shapes, 30 M": lambda: gpt2(384, 6),
    "GPT-2 shapes, 124 M": lambda: gpt2(768, 12),
    BILLION: lambda: llama(2048, 16, 8192),
}


def measure(case: str, form: str, device: str) -> dict[str, Any]:
    """One forecast of random weights and a random nowcaster, in this process."""
    graph = CASES[case]()
    torch.manual_seed(0)
    nino = Nino(precision="float32" if form == "DGL" else form).requires_grad_(False).to(device)
    # The states of a billion weights are kept in half the bytes, so that a model and its optimizer fit beside them.
    history = _history(graph, torch.bfloat16 if case == BILLION else torch.float32, device)
    graph.positions  # noqa: B018  (once a network, not once a forecast)
    forecast = nino.forecast_with_dgl if form == "DGL" else nino.forecast
    small = mlp(4, 4)
    _consume(forecast, small, _history(small, torch.float32, device))  # what loads on first use
    if device == "cuda":
        _consume(forecast, graph, history)
    seconds: list[float] = []
    with peak_memory(device) as peak:
        seconds.append(_seconds(forecast, graph, history))
    while sum(seconds) < ENOUGH_SECONDS:
        seconds.append(_seconds(forecast, graph, history))
    rate = matrix_product_rate(nino, device)
    return {
        "case": case,
        "form": form,
        "parameters": graph.num_parameters,
        "edges": graph.num_edges,
        "neurons": graph.num_nodes,
        "forecasts": len(seconds),
        "seconds": median(seconds),
        "peak_extra_megabytes": peak[0],
        "matrix_product_rate": rate,
        "share_of_rate": graph.num_edges * MULTIPLY_ADDS_AN_EDGE / median(seconds) / rate,
    }


def _history(graph: NeuralGraph, dtype: torch.dtype, device: str) -> dict[str, torch.Tensor]:
    return {name: torch.randn(5, *shape, dtype=dtype, device=device) for name, shape in graph.parameters.items()}


def _consume(forecast: Callable[..., Any], graph: NeuralGraph, history: dict[str, torch.Tensor]) -> None:
    """Take the predictions one by one, as write-back does, and keep none."""
    for _ in forecast(graph, history, HORIZON):
        pass
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _seconds(forecast: Callable[..., Any], graph: NeuralGraph, history: dict[str, torch.Tensor]) -> float:
    started = time.perf_counter()
    _consume(forecast, graph, history)
    return time.perf_counter() - started


@contextmanager
def peak_memory(device: str) -> Iterator[list[float]]:
    """Megabytes at the peak beyond those before, on the device that computes; filled in at the end."""
    found: list[float] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        found.append((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far: proc(5)
    before = psutil.Process().memory_info().rss
    yield found
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    found.append(max(0, peak - before) / 2**20)


def matrix_product_rate(nino: Nino, device: str, repeats: int = 5) -> float:
    """Multiply-adds a second of large products in the nowcaster's precision, the best of several."""
    size = 2048 if device == "cpu" else 8192
    dtype = torch.bfloat16 if nino.precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    with float32_products(nino.precision, left.device):
        for _ in range(repeats):
            started = time.perf_counter()
            left @ right
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, size**3 / (time.perf_counter() - started))
    return best


def measurements(cases: Sequence[str], device: str) -> Iterator[dict[str, Any]]:
    for case in cases:
        edges = CASES[case]().num_edges
        for form in FORMS[device]:
            if form == "DGL" and edges > DGL_EDGES:
                continue
            if form == "bfloat16" and not multiplies_bfloat16(device):
                continue  # it would be float32 again
            found = measure(case, form, device) if device == "cuda" else measure_apart(case, form)
            print(f"{case} {form}: {found['seconds']:.2f} s", file=sys.stderr)
            yield found


def measure_apart(case: str, form: str) -> dict[str, Any]:
    """`measure` on the processor, in a process of its own."""
    command = [sys.executable, __file__, "--measure", case, form]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    header = [
        "network",
        "form",
        "weights",
        "edges",
        "seconds",
        "s / M edges",
        "product rate",
        "share of rate",
        "peak MB",
    ]
    body = [
        [
            row["case"],
            row["form"],
            f"{row['parameters']:,}",
            f"{row['edges']:,}",
            f"{row['seconds']:.3f}",
            f"{row['seconds'] / row['edges'] * 1e6:.2f}",
            f"{row['matrix_product_rate'] / 1e9:.0f} G/s",
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
    colours = {"float32": "#0072B2", "tf32": "#009E73", "bfloat16": "#56B4E9", "DGL": "#D55E00"}
    for panel, (key, label) in zip(panels, units, strict=True):
        for form, colour in colours.items():
            points = sorted((row["edges"], row[key]) for row in rows if row["form"] == form and row[key] > 0)
            if points:
                name = "DGL, float32" if form == "DGL" else f"streamed, {form}"
                panel.loglog(*zip(*points, strict=True), marker="o", color=colour, label=name)
        panel.set_xlabel("edges")
        panel.set_ylabel(label)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    figure.suptitle("A NiNo forecast, hidden 128")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--device", choices=list(FORMS), default="cpu")
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), help=f"default: all, on a processor without {BILLION}"
    )
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "FORM"), help="one measurement, printed as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.device)))
        return
    cases = options.cases or [case for case in CASES if options.device == "cuda" or case != BILLION]
    options.out.mkdir(parents=True, exist_ok=True)
    environment = describe_environment(options.device)  # before results, which git may know, are written
    path = options.out / f"streaming-{options.device}"
    rows: list[dict[str, Any]] = []
    for row in measurements(cases, options.device):
        rows.append(row)
        write(rows, environment, path)  # what was measured is kept if the next takes too long
    print(as_table(rows))


def write(rows: Sequence[dict[str, Any]], environment: dict[str, Any], path: Path) -> None:
    write_text(path.with_suffix(".json"), json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
    machine = ", ".join(f"{key} {value}" for key, value in environment.items() if value is not None)
    table = f"```\n{as_table(rows)}\n```\n\n{machine}.\n"
    write_text(path.with_suffix(".md"), f"# A NiNo forecast, streamed and in DGL message passing\n\n{table}")
    plot(rows, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
