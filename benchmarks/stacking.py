"""Networks trained one by one, one after the other in one program, and stacked: steps of a network a second.

python benchmarks/stacking.py DATA_ROOT [DEVICE] writes benchmarks/results/stacking-DEVICE.md. On a CPU seconds are
those of the process, so that other programs disturb less.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ninokit.benchmarks.report import describe_environment
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.benchmarks.training import batches
from ninokit.graph.tables import format_table
from ninokit.pretraining.network_stack import LOOPED, STACKED
from ninokit.pretraining.stacked_training import StackedTraining, initial_network

_TASKS = (
    *("mnist1d_mlp", "mnist1d_mlp_deep", "mnist1d_cnn", "mnist1d_batchnorm_cnn", "mnist1d_depthwise_cnn"),
    *("mnist1d_resnet", "digits_mlp", "digits_cnn", "digits_batchnorm_cnn", "digits_depthwise_cnn", "digits_resnet"),
    *("digits_vit", "fashion_mlp", "fashion_cnn", "fashion_batchnorm_cnn", "fashion_depthwise_cnn"),
    *("fashion_resnet", "fashion_vit", "shakespeare_gpt2_narrow", "shakespeare_gpt2_shallow", "fm16"),
)
_NETWORKS = {"cpu": 16, "cuda": 256}
_STEPS = 5


def main() -> None:
    root, device = Path(sys.argv[1]), torch.device(sys.argv[2] if len(sys.argv) > 2 else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    networks = _NETWORKS[device.type]
    rows = [_row(find_task(name), root, device, networks) for name in _TASKS]
    header = ["task", "one by one", "looped", f"{networks} stacked"]
    environment = ", ".join(f"{name} {value}" for name, value in describe_environment(device.type).items())
    text = f"Steps of a network a second ({environment}):\n\n"
    table = format_table(header, rows)
    print(table)
    target = Path(__file__).parent / "results" / f"stacking-{device.type}.md"
    target.write_text(f"{text}```text\n{table}\n```\n", encoding="utf-8")


def _row(task: Task, root: Path, device: torch.device, networks: int) -> list[str]:
    data = task.load_data(root).to(device)
    rates = [
        _STEPS / _seconds(_alone(task, data), device),
        *(_STEPS * networks / _seconds(_together(task, data, networks, how), device) for how in (LOOPED, STACKED)),
    ]
    print(task.name, *(f"{rate:,.0f}" for rate in rates), flush=True)
    return [task.name, *(f"{rate:,.0f}" for rate in rates)]


def _alone(task: Task, data: ClassificationData) -> Callable[[], object]:
    model = initial_network(task, 0).to(data.train_inputs.device)
    optimizer, order = task.build_optimizer(model), batches(data, task.batch_size, 0)

    def step() -> None:
        optimizer.zero_grad()
        task.loss(model, *next(order)).backward()
        optimizer.step()

    return step


def _together(task: Task, data: ClassificationData, networks: int, execution: str) -> Callable[[], object]:
    rates = [{"lr": task.lr, "weight_decay": task.weight_decay}] * networks
    return StackedTraining(task, data, seeds=range(networks), hyperparameters=rates, execution=execution).step


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    """Of `_STEPS` steps, the least of three times; on a CPU the process's own."""
    step()
    return min(_timed(step, device) for _ in range(3))


def _timed(step: Callable[[], object], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _wait(device)
    started = clock()
    for _ in range(_STEPS):
        step()
    _wait(device)
    return clock() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
