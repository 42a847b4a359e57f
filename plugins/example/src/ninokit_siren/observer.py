"""An observer that keeps a log of nowcasts, one JSON object a line."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninokit import NowcastEvent

__all__ = ["LOG", "record"]

LOG = "NINOKIT_SIREN_LOG"


def record(event: NowcastEvent) -> None:
    """Append an event to the log, if the environment variable ``NINOKIT_SIREN_LOG`` names a file.

    Args:
        event: what happened.
    """
    path = os.environ.get(LOG)
    if path:
        with Path(path).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(event)) + "\n")
