"""Weights to start from: trained where they are first asked for, and kept in the user's cache.

Shapes: N training examples, T tokens a sequence.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import trange

from ninokit.benchmarks.metric import mean_cross_entropy
from ninokit.benchmarks.task import ClassificationData
from ninokit.benchmarks.training import batches
from ninokit.errors import DatasetError
from ninokit.zoo.settings import cache_folder

__all__ = ["Pretraining"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A training whose result is where others start: AdamW, with a rate that falls linearly to zero.

    Args:
        name: of the result's file.
        build_model: makes the network, from torch's global random state. Its function and arguments are a part of what
            the result is known by.
        batch_size: examples a step, at least 1.
        lr: rate of the first step, above 0.
        weight_decay: AdamW's, at least 0.
        steps: at least 1.
        seed: of the initial weights and of the order of the batches.
    """

    name: str
    build_model: partial[Any]  # of an nn.Module; mypy wants the very class otherwise
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    steps: int
    seed: int = 0

    def weights(self, data: ClassificationData) -> dict[str, Tensor]:
        """The trained network's parameters and buffers, from the cache if they are there.

        torch's global random state is as before when this returns. The same machine with as many threads gives the same
        bits. A second process waits for the first.

        Args:
            data: to train on, on the CPU.

        Returns:
            Name in the network → tensor; of parameters with two names, one.

        Raises:
            DatasetError: the file in the cache is damaged.
        """
        path = self.path(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _log.info("pretraining %r: %d steps; the result will be kept as %s", self.name, self.steps, path)
                _write(self._trained(data), path)
        return _read(path)

    def path(self, data: ClassificationData) -> Path:
        """Where the result is kept: a file for each content of the data and each setting.

        Args:
            data: to train on, on the CPU.

        Returns:
            The file, which need not exist.
        """
        build = self.build_model
        settings = {name: value for name, value in vars(self).items() if name != "build_model"}
        network = [build.func.__module__, build.func.__qualname__, build.args, build.keywords]
        digest = hashlib.sha256(json.dumps([settings, network], sort_keys=True).encode())
        for tensor in (data.train_inputs, data.train_labels):
            digest.update(repr((tensor.dtype, tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return cache_folder() / "pretrained" / f"{self.name}-{digest.hexdigest()[:16]}.safetensors"

    def _trained(self, data: ClassificationData) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: nn.Module = self.build_model()
            optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
            schedule = LambdaLR(optimizer, lambda step: 1 - step / self.steps)
            order = batches(data, self.batch_size, self.seed)
            # disable=None: no bar where the output is not a terminal.
            for _ in trange(self.steps, desc=f"pretraining {self.name}", unit="step", disable=None):
                inputs, labels = next(order)
                optimizer.zero_grad()
                mean_cross_entropy(model(inputs), labels).backward()
                optimizer.step()
                schedule.step()
        return {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]}


def _write(weights: dict[str, Tensor], path: Path) -> None:
    """Under another name first, so that what has the name is whole."""
    partial_path = path.with_suffix(".partial")
    save_file({name: weight.contiguous() for name, weight in weights.items()}, partial_path)
    partial_path.replace(path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise DatasetError(
            f"{path}: expected the weights of a pretraining; the file is damaged ({error}). Remove it, and they are "
            "trained again"
        ) from error
    return weights
