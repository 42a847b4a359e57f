"""Nowcasting inside a training loop: history, horizons, prediction and write-back."""

from ninokit.training.attach import attach
from ninokit.training.events import NowcastEvent
from ninokit.training.horizons import published_horizons
from ninokit.training.nowcasting import Nowcasting

__all__ = ["NowcastEvent", "Nowcasting", "attach", "published_horizons"]
