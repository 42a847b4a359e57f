"""Running statistics of BatchNorm after jumps, kept or collected anew, as evaluation sees them.

    python benchmarks/timm_batchnorm.py --data-root DATA --nowcaster nino_no_posw.pt --out docs/timm/batchnorm

The task `timm_resnet` with nowcasting, once a seed and policy. Training never looks at running statistics, so that the
weights of a seed are the same under every policy, and any difference is that of the statistics. `ideal` is the accuracy
of the same weights with the mean statistics of 20 training batches through these very weights. OUT gets batchnorm.json,
batchnorm.md and batchnorm.png. A process of one thread a run; as many as there are runs work side by side.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import nn

import ninokit
from ninokit.benchmarks.task import ClassificationData
from ninokit.benchmarks.training import batches
from ninokit.nowcasters import load
from ninokit.training.batchnorm import Recalibration
from ninokit_timm.tasks import TIMM_RESNET as TASK

OFFSETS = (0, 1, 2, 5, 10, 20, 50, 100, 199)  # steps after a jump
IDEAL = "ideal"
IDEAL_BATCHES = 20


class Run(NamedTuple):
    """What a process does."""

    seed: int
    policy: int  # steps of recalibration
    data_root: Path
    nowcaster: str


# A name of a policy → steps after a jump → accuracies after each jump of a run.
Measured = dict[str, dict[int, list[float]]]


def main() -> None:
    options = parse_options()
    runs = [Run(s, p, options.data_root, options.nowcaster) for s in options.seeds for p in options.policies]
    with ProcessPoolExecutor(len(runs)) as pool:
        found = list(pool.map(measure, runs))
    options.out.mkdir(parents=True, exist_ok=True)
    results = [{"seed": run.seed, "accuracy": measured} for run, measured in zip(runs, found, strict=True)]
    (options.out / "batchnorm.json").write_text(json.dumps(results, indent=1) + "\n")
    together = merged(found)
    (options.out / "batchnorm.md").write_text(table(together))
    picture(together).savefig(options.out / "batchnorm.png")
    print(table(together))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder that holds FashionMNIST/raw")
    parser.add_argument("--nowcaster", required=True, help="a nowcaster's name or the path of a checkpoint")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--policies", type=int, nargs="+", default=[0, 20, 100], help="steps of recalibration")
    parser.add_argument("--out", type=Path, default=Path("runs/batchnorm"))
    return parser.parse_args()


def measure(run: Run) -> Measured:
    """Train once; what evaluation finds after each jump."""
    torch.set_num_threads(1)
    data = TASK.load_data(run.data_root)
    test = replace(data, test_inputs=data.test_inputs[:2000], test_labels=data.test_labels[:2000])
    torch.manual_seed(run.seed)
    model = TASK.build_model()
    optimizer = TASK.build_optimizer(model)
    nowcasting = ninokit.attach(
        optimizer,
        model,
        load(run.nowcaster),
        period=TASK.period,
        total_steps=TASK.total_steps,
        recalibrate_batchnorm=run.policy,
    )
    measured: Measured = {name_of(run.policy): {offset: [] for offset in OFFSETS}}
    if run.policy == 0:
        measured[IDEAL] = {offset: [] for offset in OFFSETS}
    stream = batches(data, TASK.batch_size, run.seed)
    for _ in range(TASK.total_steps):
        inputs, labels = next(stream)
        optimizer.zero_grad()
        TASK.loss(model, inputs, labels).backward()
        optimizer.step()
        offset = nowcasting.steps - nowcasting.events[-1].step if nowcasting.accepted else -1
        if offset in OFFSETS:
            measured[name_of(run.policy)][offset].append(TASK.evaluate(model, test))
            if IDEAL in measured:
                measured[IDEAL][offset].append(TASK.evaluate(with_own_statistics(model, data), test))
    return measured


def name_of(policy: int) -> str:
    return f"anew over {policy} steps" if policy else "kept"


@torch.no_grad()
def with_own_statistics(model: nn.Module, data: ClassificationData) -> nn.Module:
    """A copy with the statistics of its own weights."""
    model = copy.deepcopy(model)
    Recalibration(model, IDEAL_BATCHES).start()
    for inputs in data.train_inputs.split(TASK.batch_size)[:IDEAL_BATCHES]:
        model(inputs)
    return model


def merged(runs: list[Measured]) -> Measured:
    """The jumps of all seeds together."""
    together: Measured = {}
    for name, offset, accuracies in ((n, o, a) for run in runs for n, found in run.items() for o, a in found.items()):
        together.setdefault(name, {}).setdefault(offset, []).extend(accuracies)
    return together


def table(measured: Measured) -> str:
    """The mean over the jumps, in Markdown."""
    lines = ["| steps after the jump | " + " | ".join(measured) + " |", "| ---: |" + " ---: |" * len(measured)]
    for offset in OFFSETS:
        cells = [f"{statistics.mean(found[offset]):.2%}" for found in measured.values()]
        lines.append(f"| {offset} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(measured: Measured) -> Figure:
    """The mean over the jumps against the steps since."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, found in measured.items():
        style = "k--" if name == IDEAL else "o-"
        axes.plot(OFFSETS, [statistics.mean(found[offset]) for offset in OFFSETS], style, label=name, markersize=3)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(OFFSETS, [str(offset) for offset in OFFSETS])
    axes.set_xlabel("steps after the jump")
    axes.set_ylabel("test accuracy, mean over the jumps")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
