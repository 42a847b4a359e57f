"""The checkpoint of a meta-training: all that it goes on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ninokit.errors import CheckpointError, ConfigError
from ninokit.pretraining.curves import Point
from ninokit.pretraining.meta_training import MetaTraining
from ninokit.pretraining.pretrain_config import PretrainConfig
from ninokit.pretraining.validation import Split

__all__ = ["load_checkpoint", "save_checkpoint"]


# Settings that a training which goes on may have otherwise.
_FREE = ("trajectories", "out", "threads", "memory_gib")


def save_checkpoint(
    path: Path, config: PretrainConfig, split: Split, training: MetaTraining, points: Sequence[Point]
) -> None:
    """Write a checkpoint, replacing the file in one go.

    Args:
        path: the file; its folder must exist.
        config: the settings.
        split: what is trained on, and what is held out.
        training: its state.
        points: of the curves so far.
    """
    unfinished = path.with_name(path.name + ".part")
    content = {
        "config": asdict(config),
        "split": split.summary,
        "training": training.state_dict(),
        "points": [point.to_plain() for point in points],
    }
    torch.save(content, unfinished)
    unfinished.replace(path)


def load_checkpoint(path: Path, config: PretrainConfig, split: Split, training: MetaTraining) -> list[Point]:
    """Take a training back to where a checkpoint was written.

    Args:
        path: the file.
        config: the settings, the same as those of the checkpoint but for where things are and how they are computed.
        split: of the same trajectories.
        training: made from them; its state is replaced.

    Returns:
        The points of the curves so far.

    Raises:
        CheckpointError: if the file is no checkpoint of a meta-training.
        ConfigError: if it is one of other settings or other trajectories.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        before, parts, state, points = (content[key] for key in ("config", "split", "training", "points"))
    except Exception as error:
        raise CheckpointError(
            f"{path}: is no checkpoint of a meta-training ({type(error).__name__}); remove it to start anew"
        ) from error
    now = {key: value for key, value in asdict(config).items() if key not in _FREE}
    changed = [f"{key}={now[key]} (was {before.get(key)})" for key in now if now[key] != before.get(key)]
    if changed:
        raise ConfigError(
            f"{path}: is the checkpoint of other settings: {', '.join(changed)}. Give the same settings to go on, or "
            f"another out=… to start anew"
        )
    if parts != split.summary:
        raise ConfigError(
            f"{path}: is the checkpoint of a training on other trajectories: {_counts(parts)}; now they are "
            f"{_counts(split.summary)}. Take the store as it was, or another out=… to start anew"
        )
    training.load_state_dict(state)
    return [Point.from_plain(point) for point in points]


def _counts(parts: Mapping[str, Sequence[tuple[str, int, int]]]) -> str:
    """How many there are in each part, and how many states they have together."""
    return ", ".join(f"{len(part)} of {sum(t[2] for t in part)} states ({name})" for name, part in parts.items())
