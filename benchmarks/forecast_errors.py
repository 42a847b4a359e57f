r"""How well nowcasters foretell stored trajectories: L1 distance, direction and length of the predicted change.

    ninokit collect 'tasks=[fm16]' networks=4 first_seed=900 steps=6000 every=40 'lr_range=[1.0,1.0]' \
        data_root=DATA out=runs/unseen
    python benchmarks/forecast_errors.py runs/unseen --spacing 200 wnn_h64.v1 nino_h64.v1

Prints a row a nowcaster, in the scale of the context and on the same slices: the mean L1 over the known horizon; and 10
states ahead, of the slices that reach so far, the L1, the cosine between predicted and true change of all weights, and
the ratio of their lengths.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from ninokit.graph.tables import format_table
from ninokit.nowcasters import Nowcaster, load
from ninokit.nowcasters.scaling import Scale
from ninokit.pretraining import TrajectoryStore
from ninokit.pretraining.slices import Slices, SliceSampler, encode_tasks

CONTEXT, HORIZON, AHEAD = 5, 40, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trajectories")
    parser.add_argument("nowcasters", nargs="+")
    parser.add_argument("--spacing", type=int, default=200, help="optimizer steps from one state to the next")
    parser.add_argument("--slices", type=int, default=24, help="of each task")
    options = parser.parse_args()
    trajectories = TrajectoryStore.open(options.trajectories).trajectories
    spacing = (options.spacing, options.spacing)
    sampler = SliceSampler(
        trajectories, encode_tasks(trajectories), context=CONTEXT, horizon=HORIZON, spacing=spacing, memory=2**32
    )
    for task in sampler.tasks:
        slices = sampler.draw_task(np.random.default_rng(0), task, options.slices)
        far = int(slices.known[:, AHEAD - 1].sum())
        reach = f"{far} of which reach {AHEAD} states ahead"
        print(f"{task}, {len(slices.known)} slices of states {options.spacing} steps apart, {reach}\n")
        header = ["nowcaster", "L1", f"L1 at {AHEAD}", f"cosine at {AHEAD}", f"length at {AHEAD}"]
        rows = [["no change", *measured(slices, None)]]
        rows += [[name, *measured(slices, load(name))] for name in options.nowcasters]
        print(format_table(header, rows))


def measured(slices: Slices, nowcaster: Nowcaster | None) -> list[str]:
    """The columns of one nowcaster; None predicts that nothing changes."""
    means: list[float] = []
    ahead: list[tuple[float, float, float]] = []
    for row, known in enumerate(slices.known):
        states = {name: values[row] for name, values in slices.states.items()}
        scales = {name: Scale.of(values[:CONTEXT], values) for name, values in states.items()}
        errors = []
        for horizon in range(1, int(known.sum()) + 1):
            predicted, true = changes(slices, states, scales, nowcaster, horizon)
            errors.append((predicted - true).abs().mean().item())
            if horizon == AHEAD:
                cosine = torch.nn.functional.cosine_similarity(predicted, true, dim=0).item()
                ahead.append((errors[-1], cosine, (predicted.norm() / true.norm()).item()))
        means.append(float(np.mean(errors)))
    columns = np.mean(ahead, axis=0) if ahead else np.full(3, np.nan)
    return [f"{value:.3f}" for value in (np.mean(means), *columns)]


def changes(
    slices: Slices, states: dict[str, Tensor], scales: dict[str, Scale], nowcaster: Nowcaster | None, horizon: int
) -> tuple[Tensor, Tensor]:
    """The predicted and the true change of all weights that move with their parameter, scaled as a forecast does."""
    history = {name: values[:CONTEXT] for name, values in states.items()}
    future = None if nowcaster is None else dict(nowcaster.forecast(slices.graph, history, horizon))
    predicted, true = [], []
    for name, values in states.items():
        scale = scales[name]
        if not scale.moves:
            continue
        last, then = (scale.apply(values[CONTEXT - 1 + ahead]) for ahead in (0, horizon))
        predicted.append((torch.zeros_like(last) if future is None else scale.apply(future[name]) - last).flatten())
        true.append((then - last).flatten())
    return torch.cat(predicted), torch.cat(true)


if __name__ == "__main__":
    main()
