"""Arms: the ways to train a task that an evaluation compares, with and without nowcasting."""

from ninokit.benchmarks.arms.arm import Arm, Option, Recipe, UnsuitedArmError, optimizer_arm
from ninokit.benchmarks.arms.finding import find_arm
from ninokit.benchmarks.arms.nowcast import nowcasting_arm
from ninokit.benchmarks.arms.trainer import ReadOut, Trainer, averaging_trainer

__all__ = [
    "Arm",
    "Option",
    "ReadOut",
    "Recipe",
    "Trainer",
    "UnsuitedArmError",
    "averaging_trainer",
    "find_arm",
    "nowcasting_arm",
    "optimizer_arm",
]
