"""Nowcasters of our own: trajectories collected from many small trainings, and what learns from them."""

from ninokit.pretraining.store import TrajectoryStore
from ninokit.pretraining.trajectory import Trajectory

__all__ = ["Trajectory", "TrajectoryStore"]
