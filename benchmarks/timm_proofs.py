"""Proofs of the tracer's graphs on the smallest network of each module of timm, with weights and on the processor.

    python benchmarks/timm_proofs.py                     # all of them, into benchmarks/results
    python benchmarks/timm_proofs.py --modules nfnet tnt # some of them

`ninokit.testing.check_encoding` puts the neurons that a graph calls interchangeable into other orders and requires the
same output, in double precision. Writes timm-proofs.json and .md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from apart import describe, run_apart
from timm_graphs import Row, describe_graph, largest_fixed
from tqdm import tqdm

from ninokit.benchmarks.report import describe_environment, write_text
from ninokit.graph import trace
from ninokit.graph.tables import format_table
from ninokit.testing import check_encoding

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "plugins"))
from timm_networks import NETWORKS, network

MOST = 0.9  # share of the parameters that most networks' permutations move


def prove(module: str) -> Row:
    """Trace the network of a module, and check its graph."""
    torch.manual_seed(0)
    model, images = network(module)
    row: Row = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    started = time.perf_counter()
    try:
        graph = trace(model, images)
        traced = time.perf_counter()
        report = check_encoding(model, images, graph)
    except Exception as error:
        return row | {"error": describe(error), "details": str(error)}
    return row | {
        **describe_graph(graph),
        "share": report.share,
        "change": report.change,
        "rounds": report.rounds,
        "fixed_groups": dict(report.fixed),
        "silent": list(report.silent),
        "seconds_traced": traced - started,
        "seconds_checked": time.perf_counter() - traced,
    }


def proofs(modules: Sequence[str], processes: int, limit: float) -> list[Row]:
    found = run_apart(prove, modules, processes=processes, limit=limit)
    rows = [
        {"module": module, "model": NETWORKS[module][0], **row}
        for module, row in tqdm(found, total=len(modules), unit="network", smoothing=0)
    ]
    # What failed comes first, then what moves least.
    return sorted(rows, key=lambda row: (row.get("share", -1.0), row["module"]))


# What is written.


def totals(rows: Sequence[Row]) -> str:
    passed = [row for row in rows if "error" not in row]
    most = sum(row["share"] >= MOST for row in passed)
    return (
        f"{len(passed)} of {len(rows)} modules pass; in {most} the permutations move at least {MOST:.0%} of the "
        f"parameters."
    )


def reasons(fixed: Mapping[str, str]) -> str:
    """Why groups keep their order, the inputs' and outputs' aside, and the first of those that do."""
    groups = defaultdict(list)
    for name, reason in fixed.items():
        if reason not in {"input", "output"}:
            groups[re.sub(r"tied to '.*'", "tied", reason)].append(name)
    return "; ".join(f"{len(names)} {reason}: {names[0]}{', …' * (len(names) > 1)}" for reason, names in groups.items())


def as_table(rows: Sequence[Row]) -> str:
    header = ["module", "model", "parameters", "permuted", "change", "s traced", "s checked", "fixed besides ends"]
    return format_table(header, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    cells = [row["module"], row["model"], f"{row['parameters']:,}" if "parameters" in row else "–"]
    if "error" in row:
        return [*cells, "failed", "–", "–", "–", row["error"]]
    return [
        *cells,
        f"{row['share']:.1%}",
        f"{row['change']:.0e}",
        f"{row['seconds_traced']:.1f}",
        f"{row['seconds_checked']:.1f}",
        reasons(row["fixed_groups"]),
    ]


def as_markdown(rows: Sequence[Row], environment: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in environment.items() if value is not None)
    notes = (
        "Each network is its module's smallest. Permuted is the share of its parameters that some permutation moves; "
        "change the largest of an output number, relative to the largest output; fixed are groups of neurons that keep "
        "their order though they are neither inputs nor outputs, how many and which is the first."
    )
    parts = ["# Proofs of the tracer's graphs of timm", totals(rows), notes, f"```\n{as_table(rows)}\n```"]
    little = [row for row in rows if "error" not in row and row["share"] < MOST]
    if little:
        listed = "\n".join(f"- {row['module']}: {largest_fixed(row)}" for row in little)
        parts.append(f"What stays in place where less than {MOST:.0%} moves, the largest parameters:\n\n{listed}")
    return "\n\n".join([*parts, f"{machine}.\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--modules", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="MODULE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a network is given up")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process with threads may hang
    warnings.filterwarnings("ignore")
    rows = proofs(options.modules, options.processes, options.limit)
    environment = describe_environment("cpu") | {"timm": timm.__version__, "processes": options.processes}
    path = options.out / "timm-proofs"
    options.out.mkdir(parents=True, exist_ok=True)
    document = json.dumps({"environment": environment, "rows": rows}, indent=1, ensure_ascii=False)
    write_text(path.with_suffix(".json"), document + "\n")
    write_text(path.with_suffix(".md"), as_markdown(rows, environment))
    print(totals(rows))


if __name__ == "__main__":
    main()
