"""The command line of the plugins: ``ninokit plugins list | check | new``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TypeAlias

from ninokit.plugins._registry import Registry
from ninokit.plugins.listing import format_json, format_table
from ninokit.plugins.project import write_project

__all__ = ["add_commands"]

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Fill in the commands of ``ninokit plugins``.

    Args:
        parser: of ``ninokit plugins``.
    """
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(commands)
    _add_check(commands)
    _add_new(commands)


def _add_list(commands: _Commands) -> None:
    command = commands.add_parser(
        "list",
        help="list the installed plugins",
        description="List the installed plugins, those first that are asked first, with the hooks that they implement, "
        "and what became of them. The plugins' modules are imported, but no hook is called.",
    )
    command.add_argument("--names", action="store_true", help="call the hooks too, which takes PyTorch: list the names")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_run_list)


def _run_list(options: argparse.Namespace) -> None:
    # Faults are what one wants to see here, so none is an error; and what a plugin prints is no part of the listing.
    with contextlib.redirect_stdout(sys.stderr):
        registry = Registry.discover(strict=False)
        if options.names:
            registry.collect()
    plugins = registry.plugins()
    print(format_json(plugins) if options.json else format_table(plugins))


def _add_check(commands: _Commands) -> None:
    command = commands.add_parser(
        "check",
        help="check all that a plugin promises",
        description="Check a plugin on its own examples: import, API version, registration; architectures (proof of "
        "the graph, round trip, DGL view, errors), tracer rules, nowcasters, zoo entries, tasks, arms, observers. "
        "Exit status 1 on a failure.",
    )
    command.add_argument("name", metavar="NAME", help="of the plugin, as `ninokit plugins list` shows it")
    command.set_defaults(run=_run_check)


def _run_check(options: argparse.Namespace) -> int:
    from ninokit.testing import check_plugin

    report = check_plugin(options.name)
    print(report)
    return 0 if report.passed else 1


def _add_new(commands: _Commands) -> None:
    command = commands.add_parser(
        "new",
        help="write a plugin project",
        description="Write a plugin project that works: a network, its encoder, and tests that pass once it is "
        "installed.",
    )
    command.add_argument("name", metavar="NAME", help="of the plugin, such as siren")
    command.add_argument("--path", type=Path, metavar="FOLDER", help="to make; left out, ninokit-NAME")
    command.set_defaults(run=_run_new)


def _run_new(options: argparse.Namespace) -> None:
    folder = write_project(options.name, options.path)
    print(f"Written to {folder}. Install it and run its tests: pip install --editable {folder} && pytest {folder}")
