"""How far each nowcast looks ahead."""

from __future__ import annotations

import numpy as np

from ninokit.errors import ConfigError

__all__ = ["published_horizons"]


def published_horizons(max_horizon: int, count: int) -> list[int]:
    """Horizons that fall from the longest to 1 with the square of the time left.

    Args:
        max_horizon: of the first nowcast, at least 1.
        count: number of nowcasts in the training, at least 1.

    Returns:
        ``round(linspace(sqrt(max_horizon), 1, count)²)``.

    Raises:
        ConfigError: if an argument is out of range.

    Example:
        >>> published_horizons(40, 10)
        [40, 33, 26, 21, 16, 11, 8, 5, 3, 1]

    Source: Knyazev et al. 2025, section 5, with power 2.
    """
    if max_horizon < 1 or count < 1:
        raise ConfigError(f"horizons: expected max_horizon ≥ 1 and count ≥ 1, got {max_horizon} and {count}")
    return [int(h) for h in np.round(np.linspace(max_horizon**0.5, 1, count) ** 2)]
