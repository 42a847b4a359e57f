"""The zoo: pretrained nowcasters by name, each with a card.

>>> import ninokit.zoo
>>> ninokit.zoo.list("nino_h32*")
['nino_h32.v1']
>>> ninokit.zoo.info("nino_h128").licence
'MIT'
"""

from ninokit.zoo.card import (
    Card,
    Measurement,
    Run,
    SavedSteps,
    SeedRuns,
    TaskSaving,
    TrainingRun,
    TrainingTask,
    WeightsFile,
)
from ninokit.zoo.entry import Entry, read_entry, write_entry
from ninokit.zoo.names import list_names as list
from ninokit.zoo.operations import download, export, info, load, push, verify

__all__ = [
    "Card",
    "Entry",
    "Measurement",
    "Run",
    "SavedSteps",
    "SeedRuns",
    "TaskSaving",
    "TrainingRun",
    "TrainingTask",
    "WeightsFile",
    "download",
    "export",
    "info",
    "list",
    "load",
    "push",
    "read_entry",
    "verify",
    "write_entry",
]
