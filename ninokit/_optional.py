"""Import of the optional packages: what the benchmarks, the pictures and the integrations need."""

from __future__ import annotations

import importlib
from types import ModuleType

from ninokit.errors import DependencyError


def require(module: str, purpose: str, extra: str = "benchmarks") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: dotted module name, such as ``"sklearn.datasets"``.
        purpose: what needs it, for the error message.
        extra: of ninokit, with which the package is installed.

    Returns:
        The imported module.

    Raises:
        DependencyError: it is not installed, or does not import here.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"{purpose} needs the package {module.partition('.')[0]!r}, which does not import here "
            f"({error}). "
            f'Install it with: pip install "ninokit[{extra}]"'
        ) from error
