"""An arm by its name: a registered one, a nowcaster on AdamW, or a nowcaster on the optimizers of another arm."""

from __future__ import annotations

import difflib

from ninokit import zoo
from ninokit.benchmarks.arms.adamw import ADAMW
from ninokit.benchmarks.arms.arm import Arm
from ninokit.benchmarks.arms.nowcast import nowcasting_arm
from ninokit.benchmarks.contenders import load_contenders
from ninokit.errors import ConfigError
from ninokit.plugins import registry
from ninokit.zoo.sources import is_source

__all__ = ["find_arm"]


def find_arm(name: str) -> Arm:
    """An arm by its name.

    Args:
        name: that of a registered arm, such as ``muon``; a nowcaster, as `ninokit.nowcasters.load` takes it, which
            means AdamW with this nowcaster; or ``ARM+NOWCASTER``, such as ``muon+linefit``, for a registered arm that
            is optimizers alone.

    Returns:
        The arm. A nowcaster's name in it is that of its card, of its checkpoint's file, or of its family.

    Raises:
        ConfigError: there is no such arm or nowcaster, or no nowcaster can be attached to the arm.
        CheckpointError: if the nowcaster can't be loaded.

    Example:
        >>> find_arm("adamw_linear").option.values
        (0.2, 0.5, 1.0)
        >>> find_arm("muon+linefit").name
        'muon+linefit'
    """
    arms = registry().arms()
    if name in arms:
        return arms[name]
    before, _, after = name.partition("+")
    base, source = (arms[before], after) if before in arms else (ADAMW, name)
    if not _is_nowcaster(source):
        raise ConfigError(_unknown(name, arms))
    (contender,) = load_contenders([source])
    return nowcasting_arm(contender.name, contender.nowcaster, base, weights_sha256=contender.weights_sha256)


def _is_nowcaster(source: str) -> bool:
    """Whether a text is a name, or of a form, that `ninokit.nowcasters.load` knows."""
    known = source in registry().nowcasters() or bool(source and (zoo.list(source) or zoo.list(f"{source}.*")))
    return known or is_source(source) or source.endswith(".pt")


def _unknown(name: str, arms: dict[str, Arm]) -> str:
    families = [family for family, made in registry().nowcasters().items() if not made.needs_weights]
    nowcasters = [*families, *zoo.list()]
    before = name.partition("+")[0]
    known = [f"{before}+{nowcaster}" for nowcaster in nowcasters] if before in arms else [*arms, *nowcasters]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    bases = ", ".join(f"{arm}+NOWCASTER" for arm, made in arms.items() if made.optimizers is not None)
    return (
        f"no arm is called {name!r}.{hint} Known arms: {', '.join(arms) or 'none'}; nowcasters, on AdamW: "
        f"{', '.join(nowcasters) or 'none'}; and {bases or 'no arm that a nowcaster can be attached to'}"
    )
