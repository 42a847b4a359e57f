"""DGL, imported on first use, with what its wheels need to work beside a recent torch."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from importlib import metadata
from types import ModuleType

from ninokit.errors import DependencyError

__all__ = ["import_dgl"]


def import_dgl() -> ModuleType:
    """The module ``dgl``.

    Raises:
        DependencyError: if it is not installed or can't be imported; the message says what to install.
    """
    if "dgl" in sys.modules:
        return sys.modules["dgl"]
    try:
        version = metadata.version("dgl")
    except metadata.PackageNotFoundError as error:
        raise DependencyError(
            "dgl is not installed. The DGL view of graphs and `Nino.forward` need it: use Python 3.10 or 3.11 with "
            "`pip install dgl==1.1.3`, or Python 3.12 with `pip install dgl==2.1.0 pandas pydantic`; there is no "
            "DGL for later Pythons."
        ) from error
    # Without a choice DGL writes one into the user's home directory.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    if version.startswith("2."):
        # The wheels of DGL 2 hold a sampling library for old torch releases alone; nothing here uses it.
        sys.modules.setdefault("dgl.graphbolt", ModuleType("dgl.graphbolt"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DGL's own deprecations are not the user's to mend
            return importlib.import_module("dgl")
    except Exception as error:
        raise DependencyError(
            f"dgl {version} is installed but can't be imported ({type(error).__name__}: {error}). With Python 3.10 "
            f"or 3.11 use `pip install dgl==1.1.3 packaging`, with 3.12 `pip install dgl==2.1.0 pandas pydantic`."
        ) from error
