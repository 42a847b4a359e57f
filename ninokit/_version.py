"""Which ninokit is installed."""

from __future__ import annotations

from importlib import metadata

__all__ = ["installed_version"]


def installed_version() -> str | None:
    """The version of ninokit's distribution, or None if there is only the source."""
    try:
        return metadata.version("ninokit")
    except metadata.PackageNotFoundError:
        return None
