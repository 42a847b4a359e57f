"""The paper's own setting: constant rates as published, trained weights, the first crossing of a target.

    python benchmarks/published_setting.py --data-root DATA

Trains what is not there yet in benchmarks/results/published-setting, each run in a process of one thread, and writes
docs/evaluation/published-setting.md and .png. docs/evaluation.md says how this differs from a fair comparison.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ninokit.benchmarks.data import load_data
from ninokit.benchmarks.plot import COLOURS, new_figure
from ninokit.benchmarks.report import describe_environment, run_from_json, write_json, write_text
from ninokit.benchmarks.summary import STEPS, aligned_table, format_cost, format_saving, summarize
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.benchmarks.training import BASELINE, NOWCASTING, RunRecord, nowcast_with, train
from ninokit.nowcasters import load

ROOT = Path(__file__).parent
RUNS = ROOT / "results" / "published-setting"
PAGE = ROOT.parent / "docs" / "evaluation" / "published-setting.md"
NOWCASTER = "nino_h128.published"
# The published vision tasks, and a character GPT-2 at the published rate for language.
SEEDS = {"fm16": (1000, 1001, 1002), "c10_16": (0, 1, 2), "fm32": (0, 1, 2), "shakespeare_gpt2_tiny_slow": (0, 1, 2)}

_METHODS = (BASELINE, NOWCASTING)


@dataclass(frozen=True)
class Job:
    """One run."""

    task: str
    method: str
    seed: int

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return RUNS / self.task / f"{self.method}-seed{self.seed}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", help="the folder of the data sets; not needed where all runs are there")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    jobs = [Job(task, method, seed) for task, seeds in SEEDS.items() for seed in seeds for method in _METHODS]
    with ProcessPoolExecutor(options.processes) as pool:
        missing = [job for job in jobs if not job.file.exists()]
        for finished in pool.map(run, missing, [options.data_root] * len(missing)):
            print(finished)
    records = {task: [read(job) for job in jobs if job.task == task] for task in SEEDS}
    PAGE.parent.mkdir(exist_ok=True)
    write_text(PAGE, page(records))
    plot(records, PAGE.with_suffix(".png"))
    print(page(records))


def run(job: Job, data_root: str | None) -> Path:
    """Train to the target, and keep what was measured."""
    torch.set_num_threads(1)
    task = find_task(job.task)
    attach = nowcast_with(load(NOWCASTER), task) if job.method == NOWCASTING else None
    record = train(task, load_data(task, data_root, "cpu"), seed=job.seed, attach=attach, stop_at_target=True)
    job.file.parent.mkdir(parents=True, exist_ok=True)
    write_json({"environment": describe_environment("cpu"), "run": asdict(record)}, job.file)
    return job.file


def read(job: Job) -> RunRecord:
    return run_from_json(json.loads(job.file.read_text(encoding="utf-8"))["run"])


def page(records: dict[str, list[RunRecord]]) -> str:
    header = ("task", "rate", "target", "AdamW: steps", f"with {NOWCASTER}", "saved", "median of the savings")
    return aligned_table(header, [row(name, runs) for name, runs in records.items()]) + "\n"


def row(name: str, runs: list[RunRecord]) -> tuple[str, ...]:
    task = find_task(name)
    *seeds, median = summarize(runs, task.target, task.metric.better)
    return (
        name,
        f"{task.lr:g}",
        f"{task.metric.name} of {task.target:g}",
        ", ".join(format_cost(each.baseline_steps, STEPS) for each in seeds),
        ", ".join(format_cost(each.nowcasting_steps, STEPS) for each in seeds),
        ", ".join(format_saving(each.steps_saved) for each in seeds),
        format_saving(median.steps_saved),
    )


def plot(records: dict[str, list[RunRecord]], path: Path) -> None:
    """The scores along the training, a panel a task, without those within a tenth of a period after a jump."""
    figure = new_figure(figsize=(11, 7))
    panels = figure.subplots(2, 2)
    for panel, (name, runs) in zip(panels.flat, records.items(), strict=True):
        task = find_task(name)
        for each in runs:
            steps, scores = zip(*settled(each, task.period), strict=True)
            colour = COLOURS[_METHODS.index(each.method)]
            panel.plot(steps, scores, color=colour, linewidth=0.9, alpha=0.7)
        late = [score for each in runs for step, score in settled(each, task.period) if step > task.total_steps // 20]
        panel.set_ylim(min(late), max(late))
        panel.axhline(task.target, color="0.35", linestyle="--", linewidth=1)
        panel.set_title(f"{name}, learning rate {task.lr:g}", fontsize="medium")
        panel.set_xlabel("optimizer steps")
        panel.set_ylabel(task.metric.name)
        panel.grid(alpha=0.25)
    for method, colour in zip(("AdamW", f"AdamW with {NOWCASTER}"), COLOURS, strict=False):
        panels[0, 0].plot([], [], color=colour, label=method)
    panels[0, 0].plot([], [], color="0.35", linestyle="--", label="target; runs end there")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, format="png")


def settled(record: RunRecord, period: int) -> Iterator[tuple[int, float]]:
    for point in record.points:
        since = min((point.step - event.step for event in record.events if event.step <= point.step), default=period)
        if since > period // 10:
            yield point.step, point.score


if __name__ == "__main__":
    main()
