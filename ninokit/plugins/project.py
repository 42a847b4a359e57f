"""A new plugin project, written from a template."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from ninokit._version import installed_version
from ninokit.errors import PluginError
from ninokit.hookspecs import API_VERSION
from ninokit.plugins.discovery import find_entries

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["write_project"]

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_SUFFIX = ".template"


def write_project(name: str, folder: Path | None = None) -> Path:
    """Write a plugin project that works: a network, its encoder, a README, and tests that pass once it is installed.

    Args:
        name: of the plugin: lower-case letters, digits, and single dashes or underscores between them.
        folder: to make; left out, ``ninokit-NAME`` in the current one.

    Returns:
        The folder.

    Raises:
        PluginError: if there is no such name, a plugin of it is installed, or the folder exists.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in write_project("gated", Path(folder, "new")).iterdir())
        ['README.md', 'pyproject.toml', 'src', 'tests']
    """
    _check_name(name)
    module = f"ninokit_{name.replace('-', '_')}"
    values = {
        "name": name,
        "distribution": f"ninokit-{name.replace('_', '-')}",
        "module": module,
        "network": "".join(part.capitalize() for part in re.split("[_-]", name)) + "Network",
        "api": str(API_VERSION),
        "ninokit_version": installed_version() or "0",
    }
    folder = Path(values["distribution"]) if folder is None else folder
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise PluginError(f"new plugin: {folder} exists already; remove it, or choose another folder") from error
    _copy(resources.files("ninokit.plugins") / "template", folder, values)
    return folder


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"new plugin: expected a name of lower-case letters and digits, with single dashes or underscores between "
            f"them, such as 'siren'; got {name!r}"
        )
    for _, plugin in find_entries():
        if plugin.name == name:
            raise PluginError(f"new plugin: {name!r} is the name of a plugin of {plugin.origin}; choose another one")


def _copy(template: Traversable, folder: Path, values: dict[str, str]) -> None:
    """Fill in a folder of templates; ``module`` in the name of one stands for the plugin's module."""
    folder.mkdir(exist_ok=True)
    for item in template.iterdir():
        target = folder / item.name.replace("module", values["module"]).removesuffix(_SUFFIX)
        if item.is_dir():
            _copy(item, target, values)
        else:
            target.write_text(Template(item.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
