"""The tasks with timm's networks: AdamW alone, with a nowcaster, and with BatchNorms recalibrated after each jump.

    python benchmarks/timm_tasks.py --data-root DATA --nowcaster nino_no_posw.pt --out docs/timm

What `ninokit compare` does run by run, with every run in a process of one thread, as many side by side as `--processes`
says. OUT gets a folder a comparison, each with results.json, summary.md and curves.png.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

import ninokit
from ninokit.benchmarks.plot import plot_results
from ninokit.benchmarks.report import Results, describe_environment, format_summary, write_results, write_text
from ninokit.benchmarks.task import Task
from ninokit.benchmarks.training import RunRecord, train
from ninokit.nowcasters import load
from ninokit_timm.tasks import TIMM_RESNET, TIMM_VIT

TASKS = {task.name: task for task in (TIMM_RESNET, TIMM_VIT)}
RECALIBRATION = 20  # optimizer steps after a jump
# Of the ResNet twice, with one baseline: the ViT has no BatchNorm.
COMPARISONS = {
    "timm_resnet": ("timm_resnet", 0),
    "timm_resnet_anew": ("timm_resnet", RECALIBRATION),
    "timm_vit": ("timm_vit", 0),
}


class Run(NamedTuple):
    """What a process does."""

    task: str
    seed: int
    recalibration: int | None  # None: the baseline


def main() -> None:
    options = parse_options()
    wanted = [Run(task, seed, None) for task in TASKS for seed in options.seeds]
    wanted += [Run(task, seed, steps) for task, steps in COMPARISONS.values() for seed in options.seeds]
    torch.set_num_threads(1)
    environment = describe_environment("cpu")
    with ProcessPoolExecutor(options.processes) as pool:
        pending = {run: pool.submit(record, run, options.data_root, options.nowcaster) for run in wanted}
        records = {run: future.result() for run, future in pending.items()}
    for name, (task, steps) in COMPARISONS.items():
        runs = [records[Run(task, seed, method)] for seed in options.seeds for method in (None, steps)]
        write(options.out / name, Results(settings(TASKS[task], steps, options), environment, tuple(runs)))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder that holds FashionMNIST/raw")
    parser.add_argument("--nowcaster", required=True, help="a nowcaster's name or the path of a checkpoint")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/timm"))
    return parser.parse_args()


def record(run: Run, data_root: Path, nowcaster: str) -> RunRecord:
    """Train once."""
    torch.set_num_threads(1)
    task = TASKS[run.task]

    def attach(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> ninokit.Nowcasting:
        plan = {"period": task.period, "total_steps": task.total_steps, "recalibrate_batchnorm": run.recalibration}
        return ninokit.attach(optimizer, model, load(nowcaster), **plan)

    method = None if run.recalibration is None else attach
    return train(task, task.load_data(data_root), seed=run.seed, attach=method)


def settings(task: Task, recalibration: int, options: argparse.Namespace) -> dict[str, object]:
    """What a reader must know, with the nowcaster's name rather than its path."""
    names = ("batch_size", "lr", "weight_decay", "total_steps", "eval_every", "target", "period")
    return {
        "task": task.name,
        "seeds": options.seeds,
        "nowcaster": Path(options.nowcaster).name,
        "recalibrate_batchnorm": recalibration,
        **{name: getattr(task, name) for name in names},
        "metric": task.metric.name,
        "better": task.metric.better.value,
    }


def write(folder: Path, results: Results) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_results(results, folder / "results.json")
    write_text(folder / "summary.md", format_summary(results))
    plot_results(results, folder / "curves.png")
    print(format_summary(results))


if __name__ == "__main__":
    main()
