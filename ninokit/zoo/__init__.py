"""The zoo: pretrained nowcasters by name, each with a card."""

from ninokit.zoo.card import Card, Measurement, Run, SeedRuns, TrainingRun, TrainingTask, WeightsFile
from ninokit.zoo.entry import Entry, read_entry, write_entry

__all__ = [
    "Card",
    "Entry",
    "Measurement",
    "Run",
    "SeedRuns",
    "TrainingRun",
    "TrainingTask",
    "WeightsFile",
    "read_entry",
    "write_entry",
]
