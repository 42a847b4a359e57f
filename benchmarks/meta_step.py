"""A step of meta-training nino, in blocks and in DGL message passing: forward, loss and backward.

    OMP_NUM_THREADS=1 python benchmarks/meta_step.py --hidden 32 digits_mlp mnist1d_cnn

Prints a row a task, number of networks side by side and form, with processor time, which other programs on the machine
disturb little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

import ninokit
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.nowcasters import Nino
from ninokit.pretraining.forms import FORMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    print("| task | parameters | networks | form | milliseconds | parameters a second |\n|---|--:|--:|---|--:|--:|")
    for name in options.tasks:
        task = find_task(name)
        graph = ninokit.encode(task.build_model(), task.example_inputs())
        for stack in (1, 8):
            for form in FORMS["nino"]:
                seconds = best_time(step(form, graph, stack, options.hidden), options.repeats)
                rate = stack * graph.num_parameters / seconds
                print(f"| {name} | {graph.num_parameters} | {stack} | {form} | {1e3 * seconds:.1f} | {rate:.3g} |")


def step(form: str, graph: ninokit.NeuralGraph, stack: int, hidden: int) -> Callable[[], None]:
    """What is measured."""
    nino, compute = Nino(hidden=hidden), FORMS["nino"][form]
    states = {name: torch.randn(stack, nino.context, *shape) for name, shape in graph.parameters.items()}
    positions = graph.positions.expand(stack, -1, -1)

    def run() -> None:
        nino.zero_grad()
        sum((part.abs().mean() for part in compute(nino, graph, positions, states)), torch.zeros(())).backward()

    return run


def best_time(run: Callable[[], None], repeats: int) -> float:
    """Processor seconds of the fastest of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
