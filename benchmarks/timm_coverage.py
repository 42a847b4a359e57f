"""The tracer on every model of timm, none of which is computed: what it covers, what stays in place, what it takes.

    python benchmarks/timm_coverage.py                       # all of them, into benchmarks/results
    python benchmarks/timm_coverage.py --models 'test_*'     # some of them

A model is made on the meta device and traced on two images of its configuration's size, in a process of its own.
Writes timm-coverage.json, with a row a model, .md, with a row a module, and .png.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from apart import describe, run_apart
from timm.models import model_entrypoint
from timm_graphs import Row, describe_graph, largest_fixed, share_fixed
from tqdm import tqdm

from ninokit.benchmarks.report import describe_environment, write_text
from ninokit.graph import trace
from ninokit.graph.tables import format_table

IMAGES = 2
MUCH = 0.1  # share of the scalar parameters that stay in place, from which on a model is listed
NAMED = 6  # points of a picture


def module_of(name: str) -> str:
    """The module of timm that a model is in."""
    return model_entrypoint(name).__module__.rpartition(".")[2]


def measure(name: str) -> Row:
    """What the tracer makes of a model."""
    with torch.device("meta"):
        model = timm.create_model(name)
    images = torch.empty(IMAGES, *model.pretrained_cfg["input_size"], device="meta")
    row: Row = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    try:
        with operators_without_rule() as without_rule:
            started = time.perf_counter()
            graph = trace(model, images)
            row["seconds"] = time.perf_counter() - started
        return row | describe_graph(graph) | {"without_rule": without_rule}
    except Exception as error:
        return row | {"error": describe(error)}


@contextmanager
def operators_without_rule() -> Iterator[list[str]]:
    """The operators that the tracer, by its log, has no rule for; filled in as they are met."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has no rule" in record.msg:
                found.append(str(record.args[0] if record.args else record.msg))

    log, listener = logging.getLogger("ninokit.graph.tracing"), Listener()
    level = log.level
    log.addHandler(listener)
    log.setLevel(logging.INFO)
    try:
        yield found
    finally:
        log.removeHandler(listener)
        log.setLevel(level)


def measurements(names: Sequence[str], processes: int, limit: float) -> list[Row]:
    found = run_apart(measure, names, processes=processes, limit=limit)
    rows = [
        {"model": name, "module": module_of(name), **row}
        for name, row in tqdm(found, total=len(names), unit="model", smoothing=0)
    ]
    return sorted(rows, key=lambda row: (row["module"], row["model"]))


# What is written.


def summary(rows: Sequence[Row]) -> str:
    done = [row for row in rows if "error" not in row]
    whole = sum(row["covered"] == row["parameters"] for row in done)
    some = sum(share_fixed(row) > MUCH for row in done)
    unruled = sum(bool(row["without_rule"]) for row in done)
    return (
        f"{len(done):,} of {len(rows):,} models, of {len({row['module'] for row in rows})} modules, are traced without "
        f"an error. Every parameter is on the graph of {whole:,}; what the others leave out their outputs do not use. "
        f"More than {MUCH:.0%} of the parameters stay in place in {some:,}. In {unruled:,} an operator has no "
        f"rule. The median trace takes {statistics.median(row['seconds'] for row in done):.1f} s, the longest "
        f"{max(row['seconds'] for row in done):.0f} s."
    )


def by_module(rows: Sequence[Row]) -> str:
    header = [
        "module",
        "models",
        "failed",
        "parameters",
        "covered",
        "fixed",
        "at most",
        "seconds",
        "longest",
        "no rule",
    ]
    grouped = defaultdict(list)
    for row in rows:
        grouped[row["module"]].append(row)
    return format_table(header, [_module_cells(module, found) for module, found in grouped.items()])


def _module_cells(module: str, rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if "error" not in row]
    cells = [module, f"{len(rows)}", f"{len(rows) - len(done)}"]
    if not done:
        return [*cells, *["–"] * 7]
    sizes = [row["parameters"] / 1e6 for row in done]
    fixed, seconds = [share_fixed(row) for row in done], [row["seconds"] for row in done]
    unruled = sorted({name for row in done for name in row["without_rule"]})
    return [
        *cells,
        f"{min(sizes):.1f} – {max(sizes):.1f} M",
        f"{min(row['covered'] / row['parameters'] for row in done):.2%}",
        f"{statistics.median(fixed):.1%}",
        f"{max(fixed):.1%}",
        f"{statistics.median(seconds):.1f}",
        f"{max(seconds):.1f}",
        ", ".join(unruled),
    ]


def stays(rows: Sequence[Row]) -> str:
    """The models of which much stays in place, the most first."""
    listed = sorted(
        (row for row in rows if "error" not in row and share_fixed(row) > MUCH), key=lambda r: -share_fixed(r)
    )
    body = [[row["model"], f"{row['parameters']:,}", f"{share_fixed(row):.1%}", largest_fixed(row)] for row in listed]
    return format_table(["model", "parameters", "fixed", "of which the largest are"], body)


def failures(rows: Sequence[Row]) -> str:
    return format_table(["model", "error"], [[row["model"], row["error"]] for row in rows if "error" in row])


def as_markdown(rows: Sequence[Row], environment: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in environment.items() if value is not None)
    parts = [
        "# The tracer on every model of timm",
        summary(rows),
        "By module: the least share of parameters on the graph; the share of those on it that no permutation moves, in "
        "the median and at most; seconds a trace.",
        f"```\n{by_module(rows)}\n```",
    ]
    if any("error" not in row and share_fixed(row) > MUCH for row in rows):
        parts += [f"Models of which more than {MUCH:.0%} stay in place:", f"```\n{stays(rows)}\n```"]
    if any("error" in row for row in rows):
        parts += ["Models that are not traced:", f"```\n{failures(rows)}\n```"]
    return "\n\n".join([*parts, f"{machine}.\n"])


def as_json(rows: Sequence[Row], environment: Mapping[str, Any]) -> str:
    """A line a model."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    return f'{{\n "environment": {json.dumps(environment)},\n "rows": [\n{lines}\n ]\n}}\n'


def plot(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    done = [row for row in rows if "error" not in row]
    left, right = figure.subplots(1, 2)
    _panel(left, done, [100 * share_fixed(row) for row in done], "parameters that no permutation moves (%)")
    _panel(right, done, [row["seconds"] for row in done], "seconds a trace")
    right.set_yscale("log")
    figure.suptitle(f"The tracer on {len(done):,} models of timm")
    figure.savefig(path)


def _panel(panel: Any, rows: Sequence[Row], heights: Sequence[float], label: str) -> None:
    """A point a model; the highest of each of the highest modules is named."""
    sizes = [row["parameters"] for row in rows]
    panel.scatter(sizes, heights, s=12, alpha=0.35, color="#0072B2", edgecolors="none")
    named: dict[str, tuple[float, float, str]] = {}
    for row, size, height in sorted(zip(rows, sizes, heights, strict=True), key=lambda point: -point[2]):
        named.setdefault(row["module"], (size, height, row["model"]))
    middle = math.sqrt(min(sizes) * max(sizes))
    for size, height, name in [*named.values()][:NAMED]:
        left = size < middle  # its name goes where there is room
        place = {"xytext": (5 if left else -5, 0), "ha": "left" if left else "right", "va": "center"}
        panel.annotate(name, (size, height), textcoords="offset points", fontsize=7, **place)
    panel.set_xscale("log")
    panel.set_xlabel("parameters")
    panel.set_ylabel(label)
    panel.grid(alpha=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--models", default="", help="pattern of their names, such as 'vit_*'; default: all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a model is given up")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process with threads may hang
    warnings.filterwarnings("ignore")
    rows = measurements(timm.list_models(options.models), options.processes, options.limit)
    environment = describe_environment("cpu") | {"timm": timm.__version__, "processes": options.processes}
    path = options.out / "timm-coverage"
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".json"), as_json(rows, environment))
    write_text(path.with_suffix(".md"), as_markdown(rows, environment))
    plot(rows, path.with_suffix(".png"))
    print(summary(rows))


if __name__ == "__main__":
    main()
