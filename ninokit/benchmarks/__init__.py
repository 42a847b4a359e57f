"""Benchmark tasks and the comparison of training with and without nowcasting."""

from ninokit.benchmarks.task import ClassificationData, Task

__all__ = ["ClassificationData", "Task"]
