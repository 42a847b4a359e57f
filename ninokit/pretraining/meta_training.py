"""Meta-training: the steps by which a nowcaster learns, and their state."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ninokit.graph.positions import laplacian_positions
from ninokit.graph.structure import POSITION_DIM, NeuralGraph
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.wnn import Wnn
from ninokit.pretraining.forms import FORMS
from ninokit.pretraining.initial import initialise
from ninokit.pretraining.objective import ScaledSlices, horizon_errors, mean_error
from ninokit.pretraining.pretrain_config import PretrainConfig
from ninokit.pretraining.slices import Slices
from ninokit.pretraining.weight_sample import sampled_errors

__all__ = ["MetaTraining", "build_nowcaster", "draw_positions"]

_log = logging.getLogger(__name__)


def build_nowcaster(config: PretrainConfig) -> Nino | Wnn:
    """A new nowcaster, initialised for meta-training from the settings' seed.

    Args:
        config: the settings.

    Returns:
        The nowcaster, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        family = Nino if config.family == "nino" else Wnn
        nowcaster = family(hidden=config.hidden, context=config.context, max_horizon=config.max_horizon)
        initialise(nowcaster)
    return nowcaster


def draw_positions(graph: NeuralGraph, stack: int, generator: np.random.Generator) -> Tensor:
    """Positions for networks of one architecture, each choice of eigenvectors being as good as the others.

    Eigenvectors have no sign, and an eigenvalue of several dimensions, as chain networks have it, no basis. A basis
    is drawn anew, in the same way as `NeuralGraph.positions` draws its own, and signs for every network.

    Args:
        graph: of the architecture.
        stack: number of networks.
        generator: what the draw depends on.

    Returns:
        Shape (stack, nodes, 8), float32.
    """
    vectors = laplacian_positions(graph, POSITION_DIM, int(generator.integers(2**31))).vectors.float()
    signs = generator.choice([-1.0, 1.0], size=(stack, 1, POSITION_DIM))
    return vectors * torch.from_numpy(signs).float()


class MetaTraining:
    """A nowcaster in training.

    A step depends on the settings, the state and the slices alone, so that a training goes on bit for bit, on the
    CPU, from a state that was kept.

    Args:
        config: the settings.

    Attributes:
        averaged: the nowcaster with the moving average of the weights, the one to keep.
        step: steps done.
        skipped: those of them that were skipped, because a loss or a gradient was not finite.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self._config = config
        self._device = torch.device(config.device)
        self._form = FORMS[config.family][config.form]
        self._nowcaster = build_nowcaster(config).to(self._device)
        if isinstance(self._nowcaster, Nino):
            self._nowcaster.precision = config.precision  # type: ignore[assignment]  # the settings have checked it
        averaging = get_ema_multi_avg_fn(config.ema_decay)
        self._averaging = AveragedModel(self._nowcaster, multi_avg_fn=averaging)
        self._optimizer = torch.optim.AdamW(
            self._nowcaster.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self._schedule = LambdaLR(self._optimizer, self._relative_rate)
        self.step = 0
        self.skipped = 0

    @property
    def averaged(self) -> nn.Module:
        """The nowcaster with averaged weights."""
        return self._averaging.module

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def train_step(self, batch: Sequence[Slices], generator: np.random.Generator) -> float:
        """Do a step; the one whose loss or gradient is not finite changes no weights, and is counted.

        Args:
            batch: stacks of slices, with equal weights.
            generator: what the draws of positions and weights depend on.

        Returns:
            The mean L1 distance.
        """
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for slices in batch:
            loss = mean_error(*self._errors(self._nowcaster, slices, generator)) / len(batch)
            loss.backward()
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(self._nowcaster.parameters(), self._config.max_gradient_norm).item()
        if math.isfinite(total) and math.isfinite(norm):
            self._optimizer.step()
            self._averaging.update_parameters(self._nowcaster)
        else:
            self.skipped += 1
            tasks = ", ".join(slices.task for slices in batch)
            _log.warning(
                "step %d skipped: L1 %g, gradient norm %g, on slices of %s (%d skipped so far)",
                self.step, total, norm, tasks, self.skipped,
            )  # fmt: skip
        self._schedule.step()
        self.step += 1
        return total

    @torch.no_grad()
    def errors(self, slices: Slices) -> Tensor:
        """The averaged nowcaster's errors, with the positions that a forecast takes.

        Args:
            slices: a stack.

        Returns:
            Shape (stack, horizon), on the CPU.
        """
        return self._errors(self.averaged, slices, None)[0].cpu()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides the settings."""
        return {
            "step": self.step,
            "skipped": self.skipped,
            "nowcaster": self._nowcaster.state_dict(),
            "averaging": self._averaging.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a training of the same settings.

        Args:
            state: from `state_dict`.
        """
        self.step, self.skipped = state["step"], state["skipped"]
        self._nowcaster.load_state_dict(state["nowcaster"])
        self._averaging.load_state_dict(state["averaging"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def _errors(
        self, nowcaster: nn.Module, slices: Slices, generator: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """The errors at each horizon, and which of them count."""
        slices, weights = slices.to(self._device), self._config.weights_per_slice
        if generator is not None and weights is not None:
            assert isinstance(nowcaster, Wnn)  # the settings have been checked
            return sampled_errors(nowcaster, slices, weights, generator), slices.known
        scaled = ScaledSlices.of(slices, self._config.context)
        stack = len(slices.known)
        if generator is None:
            positions = slices.graph.positions.expand(stack, -1, -1)
        else:
            positions = draw_positions(slices.graph, stack, generator)
        changes = self._form(nowcaster, slices.graph, positions.to(self._device), scaled.context)
        return horizon_errors(changes, scaled), scaled.known

    def _relative_rate(self, step: int) -> float:
        """Warm-up, then half a cosine."""
        rising = min(1.0, (step + 1) / self._config.warmup_steps)
        return rising * 0.5 * (1 + math.cos(math.pi * step / self._config.steps))
