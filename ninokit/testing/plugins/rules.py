"""Checks of the tracer's rules."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ninokit.testing.plugins.findings import Check, CheckError

__all__ = ["rule_checks"]


def rule_checks(name: str) -> Iterator[Check]:
    """Checks of a rule; what it says is proven with the graphs of the networks that need it.

    Args:
        name: the operator's, such as ``aten.relu``.

    Yields:
        The checks.
    """
    yield Check(f"tracer rule {name}: operator", lambda: _check_operator(name))


def _check_operator(name: str) -> str:
    namespace, _, operator = name.partition(".")
    try:
        packet = getattr(getattr(torch.ops, namespace), operator)
    except AttributeError as error:
        raise CheckError(
            f"PyTorch knows no operator torch.ops.{name}, so the rule is never asked; correct the name, or import the "
            f"library that defines it"
        ) from error
    return f"overloads {', '.join(packet.overloads())}"
