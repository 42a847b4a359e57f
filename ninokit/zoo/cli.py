"""The command line of the zoo: ``ninokit zoo list | info | download | verify | export | push``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ninokit import zoo
from ninokit.errors import NinokitError, ZooError
from ninokit.zoo.cache import whereabouts
from ninokit.zoo.names import entries
from ninokit.zoo.page import render_card, short_savings

__all__ = ["add_commands"]

_SOURCE = "a name, local-dir:FOLDER, hf-hub:owner/name@revision, or an https:// address"


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Fill in the commands of ``ninokit zoo``.

    Args:
        parser: of ``ninokit zoo``.
    """
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    names = _add(commands, _list, "list", "the names, what each saves, and where its weights are")
    names.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="such as 'nino_*'")
    card = _add(commands, _info, "info", "the card of a nowcaster")
    card.add_argument("source", metavar="NAME", help=_SOURCE)
    fetch = _add(commands, _download, "download", "fetch nowcasters, to use them without a network later")
    fetch.add_argument("sources", nargs="+", metavar="NAME", help=_SOURCE)
    check = _add(commands, _verify, "verify", "check cards, hashes and weights")
    check.add_argument("sources", nargs="*", metavar="NAME", help=f"{_SOURCE}; all that are on this machine if none")
    export = _add(commands, _export, "export", "write a nowcaster to a folder, or to a .pt for the published code")
    export.add_argument("source", metavar="NAME", help=_SOURCE)
    export.add_argument("target", type=Path, metavar="TARGET", help="a new folder, or a new file that ends in .pt")
    push = _add(commands, _push, "push", "upload a nowcaster to the Hugging Face Hub")
    push.add_argument("source", metavar="NAME", help=_SOURCE)
    push.add_argument("repository", metavar="OWNER/NAME[@BRANCH]", help="made if there is none")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    run: Callable[[argparse.Namespace], None],
    name: str,
    purpose: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    command.set_defaults(run=run)
    return command


def _list(options: argparse.Namespace) -> None:
    names = zoo.list(options.pattern)
    if not names:
        raise ZooError(f"zoo: no name fits {options.pattern!r}; `ninokit zoo list` shows all")
    width = max(map(len, names))
    for name in names:
        entry = entries()[name]
        print(f"{name:<{width}}  {whereabouts(entry):<8}  {entry.card.description}")
        for line in short_savings(entry.card):
            print(f"{'':<{width}}            {line}")


def _info(options: argparse.Namespace) -> None:
    print(render_card(zoo.info(options.source)), end="")


def _download(options: argparse.Namespace) -> None:
    for source in options.sources:
        print(f"{source}: {zoo.download(source)}")


def _verify(options: argparse.Namespace) -> None:
    sources = options.sources or [name for name in zoo.list() if whereabouts(entries()[name]) != "to fetch"]
    faults = 0
    for source in sources:
        try:
            print(f"{source}: sound, {zoo.verify(source)}")
        except NinokitError as error:
            faults += 1
            print(f"{source}: {error}")
    if faults:
        raise ZooError(f"verify: {faults} of {len(sources)} are not sound")


def _export(options: argparse.Namespace) -> None:
    print(f"Written to {zoo.export(options.source, options.target)}")


def _push(options: argparse.Namespace) -> None:
    print(f"Pushed to {zoo.push(options.source, options.repository)}")
