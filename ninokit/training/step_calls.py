"""What the hooks on an optimizer's step are called for: which calls are the training loop's, and none is compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, TypeVar

import torch

__all__ = ["StepCalls", "never_compiled"]

Hook = TypeVar("Hook", bound=Callable[..., Any])


class StepCalls:
    """Tells a step from those that it calls itself.

    A class whose step calls that of its base class runs its hooks twice a step, if torch has hooked the base class
    too, which it does for every class of which there has been an optimizer.

    Example:
        >>> calls = StepCalls()
        >>> def step(*inside):
        ...     (lambda: calls.enter())()
        ...     return [*(each() for each in inside), calls.leave()]
        >>> step(), step(step)
        ([True], [[False], True])
    """

    def __init__(self) -> None:
        self._depth = 0
        self._caller: FrameType | None = None  # of the outermost call; gone from the stack if that has raised

    def enter(self) -> None:
        """Take note of a call that starts; for the hook that torch calls then."""
        if self._caller is None or not _is_running(self._caller):
            self._depth, self._caller = 0, _caller_of(sys._getframe(1))
        self._depth += 1

    def leave(self) -> bool:
        """Take note of a call that ends without an error.

        Returns:
            Whether it is the outermost one.
        """
        self._depth -= 1
        if self._depth > 0:
            return False
        self._depth, self._caller = 0, None
        return True


def never_compiled(hook: Hook) -> Hook:
    """A hook that a compiled step calls as it is; `torch.compiler.disable` alone takes seconds to import.

    Args:
        hook: any function.

    Returns:
        The same, disabled at its first call.
    """
    disabled: list[Callable[..., Any]] = []

    @wraps(hook)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not disabled:
            disabled.append(torch.compiler.disable(hook))
        return disabled[0](*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def _caller_of(hook: FrameType) -> FrameType | None:
    """Who calls a hook, apart from what is around functions that are not to be compiled."""
    caller = hook.f_back
    while caller is not None and str(caller.f_globals.get("__name__")).startswith(("torch._dynamo", __name__)):
        caller = caller.f_back
    return caller


def _is_running(frame: FrameType) -> bool:
    """Whether a frame is among the callers of this function."""
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None
