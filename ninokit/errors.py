"""The errors that ninokit raises on purpose; each message says where, what was expected, what came, what to do."""

from collections.abc import Sequence

__all__ = [
    "ArchitectureError",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "DependencyError",
    "EncodingError",
    "ForecastError",
    "GraphError",
    "NinokitError",
    "PluginError",
    "StoreError",
    "UnsupportedModelError",
    "ZooError",
]


class NinokitError(Exception):
    """Base class of all errors that ninokit raises on purpose."""


class GraphError(NinokitError):
    """A neural graph does not describe its network's parameters."""


class EncodingError(NinokitError):
    """A neural graph is not right: neurons that it claims are interchangeable are not, or it claims too little.

    Args:
        message: what is wrong, and where.
        culprits: the parameters at fault; where it is none, the structural edges or the groups of neurons.
    """

    def __init__(self, message: str, culprits: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.culprits = tuple(culprits)


class UnsupportedModelError(NinokitError):
    """An encoder declines a model; the message is the reason."""


class ArchitectureError(NinokitError):
    """No registered architecture encodes a model, or there is none of that name."""


class ForecastError(NinokitError):
    """A nowcaster was given, or produced, something that can't be used; the weights stay as they are."""


class CheckpointError(NinokitError):
    """A nowcaster's file is missing, altered, or does not hold what it should."""


class ZooError(CheckpointError):
    """A nowcaster of the zoo is unknown, its card is malformed, or its file can't be fetched."""


class ConfigError(NinokitError):
    """A setting is unknown, missing, or out of its range."""


class DatasetError(NinokitError):
    """A task's data is not where it was said to be."""


class StoreError(NinokitError):
    """A store of trajectories is missing, of another kind, or holds something else than is asked of it."""


class DependencyError(NinokitError):
    """An optional package is missing or does not work here; the message says what to install."""


class PluginError(NinokitError):
    """A plugin could not be loaded or broke its contract."""
