"""Steps gained by a jump: short trials from the checkpoints of one training, in place of whole trainings."""

from ninokit.benchmarks.gain.measure import gain
from ninokit.benchmarks.gain.table import GainTable
from ninokit.benchmarks.gain.training import Training, task_training

__all__ = ["GainTable", "Training", "gain", "task_training"]
