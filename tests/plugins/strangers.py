"""Plugins of distributions that are not installed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ninokit
from ninokit.encoding import Architecture


def family(name: str) -> Architecture:
    return Architecture(name, f"family {name}", lambda _: False, lambda model, example_inputs: None)


def plugin(**hooks: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(**{name: ninokit.hookimpl(function) for name, function in hooks.items()})


def offering(*names: str) -> SimpleNamespace:
    offered = [family(name) for name in names]
    return plugin(ninokit_architectures=lambda: offered)


class Entry:
    """An entry point of a distribution that is not installed."""

    def __init__(self, name: str, content: object, distribution: str | None = "stranger", version: str = "1.2") -> None:
        self.name, self.content, self.value = name, content, f"{name}_module"
        self.dist = distribution and SimpleNamespace(name=distribution, version=version)

    def load(self) -> object:
        if isinstance(self.content, BaseException):
            raise self.content
        return self.content
