"""Fit Holt's three numbers to trainings of the task, and write an entry of the zoo.

Run as ``python -m ninokit_siren.fitting FOLDER``. Shape legend: P = scalar parameters of the network.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from ninokit.zoo import Card, TrainingRun, TrainingTask, write_entry
from ninokit_siren.nowcaster import Holt
from ninokit_siren.task import SIREN_PETALS

__all__ = ["collect", "error", "fit", "main"]

_SEEDS, _STEPS = range(4), 800
_HORIZONS = (5, 10, 20)
_EVERY = SIREN_PETALS.period // 5  # steps between two states, as nowcasts see them
_TURNS = 300


def collect(seed: int, steps: int = _STEPS) -> Tensor:
    """Train a network of the task, and keep its states.

    Args:
        seed: of the network and of the order of the data.
        steps: optimizer steps, at least one period.

    Returns:
        Shape (states, P), one every fifth of a period.
    """
    torch.manual_seed(seed)
    data, model = SIREN_PETALS.load_data(None), SIREN_PETALS.build_model()
    optimizer = SIREN_PETALS.build_optimizer(model)
    states = []
    for step in range(steps):
        if step % _EVERY == 0:
            states.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        batch = torch.randint(len(data.train_inputs), (SIREN_PETALS.batch_size,))
        optimizer.zero_grad()
        SIREN_PETALS.loss(model, data.train_inputs[batch], data.train_labels[batch]).backward()
        optimizer.step()
    return torch.stack(states)


def error(nowcaster: Holt, trajectories: list[Tensor]) -> Tensor:
    """The mean distance of predictions from the true states, relative to that of the last known state.

    Args:
        nowcaster: what predicts.
        trajectories: each of shape (states, P).

    Returns:
        A scalar with gradient; 1 is what no change at all gives.
    """
    found = []
    for horizon in _HORIZONS:
        weights = nowcaster.coefficients(horizon).float()
        for states in trajectories:
            windows = states.unfold(0, nowcaster.context, 1)[: len(states) - nowcaster.context - horizon + 1]
            future, last = states[nowcaster.context + horizon - 1 :], windows[..., -1]
            found.append((windows @ weights - future).abs().mean() / (last - future).abs().mean())
    return torch.stack(found).mean()


def fit(trajectories: list[Tensor], turns: int = _TURNS) -> Holt:
    """Find the three numbers with the least error.

    Args:
        trajectories: each of shape (states, P).
        turns: steps of the search.

    Returns:
        The nowcaster.
    """
    nowcaster = Holt(max_horizon=max(_HORIZONS))
    optimizer = torch.optim.Adam(nowcaster.parameters(), lr=0.02)
    for _ in range(turns):
        optimizer.zero_grad()
        error(nowcaster, trajectories).backward()
        optimizer.step()
        with torch.no_grad():
            for number in nowcaster.parameters():
                number.clamp_(0.01, 1.0)
    return nowcaster


def main() -> None:
    """Fit, tell the error on two other seeds, and write the entry."""
    parser = argparse.ArgumentParser(description="Fit Holt's three numbers, and write an entry of the zoo.")
    parser.add_argument("folder", type=Path, help="to make")
    folder = parser.parse_args().folder
    start = time.perf_counter()
    nowcaster = fit([collect(seed) for seed in _SEEDS])
    seconds = time.perf_counter() - start
    held_out = [collect(seed) for seed in (100, 101)]
    numbers = ", ".join(f"{name} {number.item():.3f}" for name, number in nowcaster.named_parameters())
    print(f"{numbers}; error on other seeds {error(nowcaster, held_out).item():.3f} of that of no change")  # noqa: T201
    write_entry(folder, nowcaster, _card(folder.name, seconds))


def _card(name: str, seconds: float) -> Card:
    threads = torch.get_num_threads()
    return Card(
        name=name,
        description="Holt's damped trend, fitted to trainings of a SIREN",
        family="holt",
        arguments={"max_horizon": max(_HORIZONS)},
        context=5,
        period=SIREN_PETALS.period,
        max_horizon=max(_HORIZONS),
        positions=None,
        licence="MIT",
        trained_on=[TrainingTask(task=SIREN_PETALS.name, trajectories=len(_SEEDS), steps=_STEPS)],
        training=TrainingRun(
            command=f"python -m ninokit_siren.fitting {name}",
            config={"horizons": list(_HORIZONS), "every": _EVERY, "turns": _TURNS},
            hardware=f"{platform.machine()} processor, {threads} thread{'s' if threads > 1 else ''}",
            seconds=seconds,
        ),
        references=["Gardner and McKenzie 1985, Management Science 31(10)"],
    )


if __name__ == "__main__":
    main()
