"""The settings of ``ninokit pretrain``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ninokit.configuration import COUNT, DEVICE, at_least_one, is_device, positive, setting

__all__ = ["PretrainConfig"]

_FRACTION = "a number of at least 0 and below 1"
_POSITIVE = "a number above 0"


def _is_fraction(value: float) -> bool:
    return 0 <= value < 1


def _is_range(values: Sequence[int]) -> bool:
    return len(values) == 2 and 1 <= values[0] <= values[1]


@dataclass(kw_only=True)
class PretrainConfig:
    """The settings of a meta-training.

    The defaults of learning rate and weight decay are those of Knyazev et al. 2025.

    Args:
        trajectories: folder of the store, as ``ninokit collect`` wrote it.
        out: folder for checkpoint, curves and the zoo entry; made if missing.
        name: of the zoo entry, ``family_size.tag``; None makes it from family and hidden.
        family: what to train: ``nino`` or ``wnn``.
        hidden: its width, at least 1.
        context: past states that it looks at, at least 2.
        max_horizon: future states that it predicts, at least 1.
        form: how its function is computed: ``blocks`` (without DGL, on any device), or ``dgl`` (`nino` in DGL message
            passing, on the CPU).
        precision: of the large products of `nino` in blocks: ``float32``, or on GPUs ``tf32`` or ``bfloat16``.
        spacing: least and most optimizer steps between two states of a slice; a period of ``attach`` divided by the
            context should lie in between.
        validation_tasks: tasks of the store that are kept out of the training.
        validation_share: of each other task's networks, those kept out of the training, at least 0 and below 1;
            rounded up.
        steps: meta-training steps, at least 1.
        tasks_per_step: tasks that a step sees, at least 1.
        slices_per_task: slices of each of them, computed side by side, at least 1.
        edges_per_task: edges that these slices may have together, at least 1: of a network with many, fewer slices are
            taken, but one. A step of `nino` costs by its edges. None sets no limit.
        weights_per_slice: weights of each of them that a `wnn` learns from, drawn anew, at least 1; None takes all.
        lr: of AdamW, after the warm-up, above 0; it falls to 0 with a cosine.
        weight_decay: of AdamW, at least 0 and below 1.
        warmup_steps: over which the learning rate rises, at least 1.
        max_gradient_norm: to which gradients are clipped, above 0.
        ema_decay: of the moving average of the weights, which is what is validated and kept; at least 0, below 1.
        validate_every: steps between two validations and checkpoints, at least 1.
        memory_gib: trajectories are kept in the device's memory if they take no more than so many GiB, above 0.
        seed: of initial weights and slices.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads for torch, at least 1; None leaves torch's own choice.
    """

    trajectories: str = setting("runs/trajectories", "a folder", bool)
    out: str = setting("runs/pretrain", "a folder", bool)
    # OmegaConf reads the annotations at run time; Optional is what all its versions know.
    name: Optional[str] = setting(None, "a name such as nino_h32.mine", bool)  # noqa: UP045
    family: str = setting("nino", "nino or wnn", lambda value: value in {"nino", "wnn"})
    hidden: int = setting(32, COUNT, at_least_one)
    context: int = setting(5, "a whole number, at least 2", lambda value: value >= 2)
    max_horizon: int = setting(40, COUNT, at_least_one)
    form: str = setting("blocks", "blocks or dgl", lambda value: value in {"blocks", "dgl"})
    precision: str = setting(
        "float32", "float32, tf32 or bfloat16", lambda value: value in {"float32", "tf32", "bfloat16"}
    )
    spacing: list[int] = setting([10, 200], "two whole numbers, such as [10,200], from 1 up, in order", _is_range)
    validation_tasks: list[str] = setting([], "a list of tasks, such as [digits_mlp]", lambda values: True)
    validation_share: float = setting(0.1, _FRACTION, _is_fraction)
    steps: int = setting(10_000, COUNT, at_least_one)
    tasks_per_step: int = setting(4, COUNT, at_least_one)
    slices_per_task: int = setting(4, COUNT, at_least_one)
    edges_per_task: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    weights_per_slice: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045
    lr: float = setting(3e-3, _POSITIVE, positive)
    weight_decay: float = setting(1e-2, _FRACTION, _is_fraction)
    warmup_steps: int = setting(100, COUNT, at_least_one)
    max_gradient_norm: float = setting(1.0, _POSITIVE, positive)
    ema_decay: float = setting(0.995, _FRACTION, _is_fraction)
    validate_every: int = setting(500, COUNT, at_least_one)
    memory_gib: float = setting(4.0, _POSITIVE, positive)
    seed: int = setting(0, "a whole number, at least 0", lambda value: value >= 0)
    device: str = setting("cpu", DEVICE, is_device)
    threads: Optional[int] = setting(None, COUNT, at_least_one)  # noqa: UP045

    @property
    def entry_name(self) -> str:
        """The name of the zoo entry."""
        return self.name if self.name is not None else f"{self.family}_h{self.hidden}.trained"
