"""A nowcaster by the name of its family, its name in the zoo, another source, or the path of its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ninokit.errors import CheckpointError, ConfigError
from ninokit.nowcasters.base import Nowcaster
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.precision import Precision, check_precision

__all__ = ["load"]


def load(source: str | Path, *, sha256: str | None = None, precision: Precision | None = None) -> Nowcaster:
    """Load a nowcaster.

    Args:
        source: the name of a family that needs no weights, such as ``linefit``; a name of the zoo, such as
            ``nino_h128.published``, or another source that `ninokit.zoo.load` takes; or the path of a published
            checkpoint (``.pt``).
        sha256: the hash that the weights must have; left out, that on the card in the zoo, or of the published file of
            the path's name.
        precision: of a forecast's products, see `ninokit.nowcasters.Nino`; left out, the nowcaster's own.

    Returns:
        The nowcaster, ready to forecast.

    Raises:
        CheckpointError: if there is no such family, entry (`ninokit.errors.ZooError`) or file, or the file is not what
            it should be.
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
    from ninokit import zoo
    from ninokit.nowcasters.published import read_published
    from ninokit.plugins import registry
    from ninokit.zoo.sources import is_source

    name = str(source)
    if is_source(name):
        return zoo.load(name, sha256=sha256)
    if Path(source).suffix == ".pt":
        return read_published(source, sha256=sha256 or _published_sha256(Path(source)))
    families = registry().nowcasters()
    if name in families:
        return _without_weights(name, families[name], sha256)
    if not (zoo.list(name) or zoo.list(f"{name}.*")):
        raise CheckpointError(_unknown(name, families))
    return zoo.load(name, sha256=sha256)


def _without_weights(name: str, family: type[Nowcaster], sha256: str | None) -> Nowcaster:
    if family.needs_weights:
        raise CheckpointError(
            f"nowcaster: {name!r} has weights to learn, so its name alone is not enough; give a name of the zoo "
            f"(`ninokit zoo list` shows them) or the path of a checkpoint"
        )
    if sha256 is not None:
        raise CheckpointError(f"nowcaster: {name!r} is no file, so it has no sha256 to check; leave that out")
    return family()


def _published_sha256(path: Path) -> str:
    """The hash of the published file of a path's name, which its card in the zoo knows."""
    from ninokit.zoo.names import entries

    published = {e.weights.file: e.weights.sha256 for e in entries().values() if e.weights.file.endswith(".pt")}
    if path.name not in published:
        raise CheckpointError(
            f"{path}: no published checkpoint has this file name (they are {sorted(published)}); if you trust "
            f"the file, load it with ninokit.nowcasters.load(path, sha256=…), or nowcaster_sha256=… on the command line"
        )
    return published[path.name]


def _unknown(name: str, families: Iterable[str]) -> str:
    from ninokit.zoo.card import CARD_FILE
    from ninokit.zoo.names import hint

    is_entry = (Path(name) / CARD_FILE).is_file()
    suggestion = f" Did you mean 'local-dir:{name}'?" if is_entry else hint(name, families)
    return (
        f"nowcaster: expected one of the families {sorted(families)}, a name of the zoo, a source such as "
        f"local-dir:FOLDER, or the path of a .pt checkpoint; got {name!r}.{suggestion}"
    )
