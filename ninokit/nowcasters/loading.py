"""A nowcaster by the name of its family or the path of its checkpoint."""

from __future__ import annotations

from pathlib import Path

from ninokit.errors import CheckpointError, ConfigError
from ninokit.nowcasters.base import Nowcaster
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.precision import Precision, check_precision

__all__ = ["load"]


def load(source: str | Path, *, sha256: str | None = None, precision: Precision | None = None) -> Nowcaster:
    """Load a nowcaster.

    Args:
        source: the name of a family that needs no weights, such as ``linefit``, or the path of a published
            checkpoint (``.pt``).
        sha256: the hash that the checkpoint must have; left out, that of the published file of its name.
        precision: of a forecast's products, see `ninokit.nowcasters.Nino`; left out, the nowcaster's own.

    Returns:
        The nowcaster, ready to forecast.

    Raises:
        CheckpointError: if there is no such family or file, or the file is not what it should be.
        ConfigError: if there is no such precision, or the nowcaster has no choice of one.

    Example:
        >>> load("linefit").context
        5
    """
    nowcaster = _load(source, sha256)
    if precision is not None:
        check_precision(precision)
        if not isinstance(nowcaster, Nino):
            raise ConfigError(f"precision: {str(source)!r} has no choice of one, got {precision!r}; leave it out")
        nowcaster.precision = precision
    return nowcaster


def _load(source: str | Path, sha256: str | None) -> Nowcaster:
    from ninokit.nowcasters.published import read_published
    from ninokit.plugins import registry

    if Path(source).suffix == ".pt":
        return read_published(source, sha256=sha256)
    families = registry().nowcasters()
    if str(source) not in families:
        raise CheckpointError(
            f"nowcaster: expected the path of a .pt checkpoint or one of the families "
            f"{sorted(families)}, got {str(source)!r}"
        )
    if families[str(source)].needs_weights:
        raise CheckpointError(
            f"nowcaster: {str(source)!r} has weights to learn, so its name alone is not enough; give the path of a "
            f"checkpoint"
        )
    if sha256 is not None:
        raise CheckpointError(f"nowcaster: {str(source)!r} is no file, so it has no sha256 to check; leave that out")
    return families[str(source)]()
