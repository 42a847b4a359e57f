"""MNIST-1D's signals (Greydanus 2020) made anew, so many that a training of 2000 steps is not limited by the data.

Shapes: N signals, L = 72 points of a signal before it is subsampled, 40 points after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ninokit._optional import require
from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.mnist1d import signal_cnn
from ninokit.benchmarks.tasks.networks import mlp

__all__ = ["FRESH_TASKS", "Generator", "load_fresh"]

_PURPOSE = "a task with fresh MNIST-1D signals"
# Split → its seed and its signals.
_TRAIN, _VALIDATION, _TEST = (1, 100_000), (2, 5_000), (3, 10_000)
_NOISE_SIGMA = 2.0  # of the filter that makes noise correlated, in points; `mnist1d.transform` has it as a constant

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Generator:
    """Makes signals as ``mnist1d.data.make_dataset`` does, all at once instead of one by one.

    Args:
        templates: one signal a class, which starts and ends near 0. Shape (classes, template points).
        padding: fewest and most zeros behind a template. The most give L.
        scale: width of the interval around 1 from which a signal's factor is drawn.
        max_translation: a signal is rotated by fewer points than this.
        correlated_noise: standard deviation, before the filter, of the noise in the padding.
        white_noise: standard deviation of the noise everywhere.
        shear: width of the interval around 0 from which the slope of a line over the whole signal is drawn.
        points: of a finished signal.
    """

    templates: _Array
    padding: tuple[int, int]
    scale: float
    max_translation: int
    correlated_noise: float
    white_noise: float
    shear: float
    points: int

    @classmethod
    def published(cls) -> Generator:
        """The package's templates and default settings.

        Returns:
            The generator.

        Raises:
            DependencyError: the package ``mnist1d`` is missing.
        """
        source = require("mnist1d.data", _PURPOSE)
        settings: Any = source.get_dataset_args()
        fewest, most = settings.padding
        return cls(
            templates=source.get_templates()["x"].astype(np.float32),
            padding=(fewest, most),
            scale=settings.scale_coeff,
            max_translation=settings.max_translation,
            correlated_noise=settings.corr_noise_scale,
            white_noise=settings.iid_noise_scale,
            shear=settings.shear_scale,
            points=settings.final_seq_length,
        )

    def signals(self, labels: npt.NDArray[np.int64], seed: int) -> _Array:
        """A signal for each label.

        Args:
            labels: rows of the templates. Shape (N,).
            seed: of all that is drawn.

        Returns:
            The signals, not normalised. Shape (N, points).
        """
        draw, count = np.random.default_rng(seed), len(labels)
        fewest, most = self.padding
        clean, is_template = self._stretched(labels, draw.integers(fewest, most, count, endpoint=True))
        clean *= 1 + _interval(draw, count, self.scale)
        length = clean.shape[1]
        source = (np.arange(length) - draw.integers(self.max_translation, size=(count, 1))) % length
        clean, is_template = (np.take_along_axis(rows, source, axis=1) for rows in (clean, is_template))
        noise = self.correlated_noise * draw.standard_normal(clean.shape, dtype=np.float32) @ _smoothing(length)
        signals = np.where(is_template, clean, noise)
        signals += self.white_noise * draw.standard_normal(clean.shape, dtype=np.float32)
        signals -= _interval(draw, count, self.shear) * np.linspace(-0.5, 0.5, length, dtype=np.float32)
        return signals @ _subsampling(length, self.points)

    def _stretched(
        self, labels: npt.NDArray[np.int64], zeros: npt.NDArray[np.int64]
    ) -> tuple[_Array, npt.NDArray[Any]]:
        """Templates with zeros behind, stretched to L points by linear interpolation; and where there is template.

        Both of shape (N, L).
        """
        known = self.templates.shape[1]
        length = known + self.padding[1]
        place = np.linspace(0, 1, length) * (known + zeros[:, None] - 1)
        before = place.astype(np.int64)
        # Two zeros do for all: further behind there is nothing else.
        padded = np.pad(self.templates, ((0, 0), (0, 2)))
        left, right = (padded[labels[:, None], np.minimum(index, known)] for index in (before, before + 1))
        share = (place - before).astype(np.float32)
        return left + share * (right - left), place < known


def _interval(draw: np.random.Generator, count: int, width: float) -> _Array:
    """Numbers drawn from an interval around 0, shape (count, 1)."""
    return np.float32(width) * (draw.random((count, 1), dtype=np.float32) - np.float32(0.5))


def _smoothing(length: int) -> _Array:
    """The Gaussian filter of correlated noise as a matrix for rows, shape (L, L)."""
    unit = np.eye(length, dtype=np.float32)
    filtered: _Array = require("scipy.ndimage", _PURPOSE).gaussian_filter1d(unit, _NOISE_SIGMA, axis=1)
    return filtered


def _subsampling(length: int, points: int) -> _Array:
    """Linear interpolation at evenly spaced points as a matrix for rows, shape (L, points)."""
    places, kept = np.arange(length), np.linspace(0, length - 1, points)
    return np.maximum(0, 1 - np.abs(places[:, None] - kept)).astype(np.float32)


def load_fresh(root: Path | None = None) -> ClassificationData:
    """Fresh MNIST-1D signals, always the same ones.

    Args:
        root: not used; the data needs no files.

    Returns:
        100,000 training, 5,000 validation and 10,000 test signals of shape (40,), as many of each class, normalised
        by the training signals' mean and standard deviation.

    Raises:
        DependencyError: the package ``mnist1d`` or SciPy is missing.
    """
    generator = Generator.published()
    (train, train_labels), *held_out = (_split(generator, *split) for split in (_TRAIN, _VALIDATION, _TEST))
    mean, std = train.mean(), train.std()
    (validation, validation_labels), (test, test_labels) = held_out
    return ClassificationData(
        train_inputs=(train - mean) / std,
        train_labels=train_labels,
        validation_inputs=(validation - mean) / std,
        validation_labels=validation_labels,
        test_inputs=(test - mean) / std,
        test_labels=test_labels,
    )


def _split(generator: Generator, seed: int, count: int) -> tuple[Tensor, Tensor]:
    # The training shuffles; any part of a split has all classes alike.
    labels = np.arange(count) % len(generator.templates)
    return torch.from_numpy(generator.signals(labels, seed)), torch.from_numpy(labels)


def _load_fresh_channels(root: Path | None = None) -> ClassificationData:
    """As `load_fresh`, with signals of shape (1, 40), for convolutions."""
    flat = load_fresh(root)
    parts = ("train_inputs", "validation_inputs", "test_inputs")
    return replace(flat, **{part: getattr(flat, part).unsqueeze(1) for part in parts})


_MLP = Task(
    name="mnist1d_fresh_mlp",
    description="fresh MNIST-1D signals, 3-layer MLP of 7k parameters, loss; needs no files",
    build_model=lambda: mlp(40, 64, 64, 10),
    load_data=load_fresh,
    batch_size=128,
    lr=0.016,
    total_steps=2_000,
    eval_every=50,
    target=0.54,
    period=200,
    metric=replace(VALIDATION_LOSS, name="test loss (nats)"),
)

_CNN = replace(
    _MLP,
    name="mnist1d_fresh_cnn",
    description="fresh MNIST-1D signals, 3-layer CNN of 4k parameters, loss; needs no files",
    build_model=signal_cnn,
    load_data=_load_fresh_channels,
    lr=0.02,
    target=0.09,
)

FRESH_TASKS = (_MLP, _CNN)
