"""Benchmark tasks and the comparison of training with and without nowcasting."""

from ninokit.benchmarks.metric import ACCURACY, VALIDATION_LOSS, Better, Metric
from ninokit.benchmarks.task import ClassificationData, Task

__all__ = ["ACCURACY", "VALIDATION_LOSS", "Better", "ClassificationData", "Metric", "Task"]
