"""What the environment says about the zoo: where the cache is, whether to stay offline, which mirror to ask first."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "mirror", "offline_by"]

_CACHE = "NINOKIT_CACHE"
_MIRROR = "NINOKIT_ZOO_MIRROR"
_OFFLINE = ("NINOKIT_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its own


def cache_folder() -> Path:
    """Where fetched nowcasters are kept.

    Returns:
        ``NINOKIT_CACHE``, or else ``ninokit`` in ``XDG_CACHE_HOME``, which is ``~/.cache`` unless set: beside Hugging
        Face's folder.
    """
    if os.environ.get(_CACHE):
        return Path(os.environ[_CACHE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ninokit"


def offline_by() -> str | None:
    """Which variable forbids the network.

    Returns:
        ``NINOKIT_OFFLINE`` or ``HF_HUB_OFFLINE``, None if neither is 1, ON, YES or TRUE.
    """
    return next((name for name in _OFFLINE if os.environ.get(name, "").upper() in _TRUE), None)


def mirror() -> str | None:
    """What to ask before the addresses on the cards.

    Returns:
        ``NINOKIT_ZOO_MIRROR``: a folder or the beginning of a URL, to which the name of a file is added; None if it is
        not set.
    """
    return os.environ.get(_MIRROR) or None
