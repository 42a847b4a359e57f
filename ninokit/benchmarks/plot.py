"""What pictures of measurements share: an empty figure, and colours."""

from __future__ import annotations

from typing import Any

from ninokit._optional import require

__all__ = ["COLOURS", "new_figure"]

# Those of Okabe and Ito that are seen on white, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_PURPOSE = "a picture of measurements"


def new_figure(figsize: tuple[float, float]) -> Any:
    """An empty figure that is saved as PNG on any machine, whatever backend the user has chosen.

    Args:
        figsize: width and height in inches.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        DependencyError: matplotlib is missing.
    """
    figure = require("matplotlib.figure", _PURPOSE).Figure(figsize=figsize, dpi=120, layout="constrained")
    require("matplotlib.backends.backend_agg", _PURPOSE).FigureCanvasAgg(figure)
    return figure
