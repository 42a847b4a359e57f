"""The command line, `ninokit`: one function a command."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import ninokit
from ninokit._optional import require
from ninokit._version import installed_version
from ninokit.errors import ConfigError, NinokitError
from ninokit.plugins import cli as plugins_cli
from ninokit.zoo import cli as zoo_cli

# What a command needs is imported when it runs: those that only look at the installation shall not wait for PyTorch.
if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["main"]

_TASK_PREFIX = "task:"
_TIMM_PREFIX = "timm:"
_FAILURE = 2
_ARM_HELP = "ways to train: registered arms such as muon, nowcasters on AdamW, or ARM+NOWCASTER"
T = TypeVar("T")
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes them from the process.

    Returns:
        The exit code: 0, 1 if a check failed, or 2 if ninokit refused, with the reason on the standard error stream.

    Example:
        >>> main(["encode", "task:digits_mlp"])  # doctest: +SKIP
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    try:
        return int(options.run(options) or 0)
    except (NinokitError, OSError) as error:  # the second as a file stands in the way, or may not be written
        print(f"ninokit: {error}", file=sys.stderr)
        return _FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ninokit", description="Train PyTorch networks in fewer steps.")
    parser.add_argument("--version", action="version", version=f"ninokit {installed_version() or '(not installed)'}")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what happens on the way")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_collect(commands)
    _add_encode(commands)
    _add_evaluate(commands)
    _add_gain(commands)
    _add_pretrain(commands)
    tasks = commands.add_parser("tasks", help="list the benchmark tasks")
    tasks.set_defaults(run=_run_tasks)
    zoo_cli.add_commands(commands.add_parser("zoo", help="pretrained nowcasters: list, fetch, check, share"))
    plugins_cli.add_commands(commands.add_parser("plugins", help="plugins: list, check, begin one"))
    return parser


def _add_compare(commands: _Commands) -> None:
    command = commands.add_parser(
        "compare",
        help="train a task by several arms, such as AdamW with and without nowcasting",
        description="Train a task by several arms, at its own rate and with nothing tuned; write evaluation.json, "
        "evaluation.md, savings.png and the curves. The same command goes on where it was stopped.",
    )
    _add_words(command, "ARM", _ARM_HELP)
    command.set_defaults(run=_run_compare)


def _add_collect(commands: _Commands) -> None:
    command = commands.add_parser(
        "collect",
        help="train many small networks and store their trajectories",
        description="Train many small networks and store their trajectories, for nowcasters to learn from. The same "
        "command goes on where it was stopped.",
    )
    _add_settings(command, "networks=32")
    command.set_defaults(run=_run_collect)


def _add_evaluate(commands: _Commands) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure what arms save on many tasks, against tuned rivals",
        description="Tune every arm on every task alike, compare them on other seeds, and write what each saves as "
        "tables and pictures. The same command goes on where it was stopped.",
    )
    _add_words(command, "ARM", _ARM_HELP)
    command.set_defaults(run=_run_evaluate)


def _add_gain(commands: _Commands) -> None:
    command = commands.add_parser(
        "gain",
        help="measure how many steps a jump gains",
        description="Train a task once with checkpoints, jump from each by nowcasters, and measure the steps gained; "
        "write gain.json, gain.md, gain.png. The same command goes on where it was stopped.",
    )
    command.add_argument("task", metavar="TASK", help="the name of a task, see `ninokit tasks`")
    _add_words(command, "NOWCASTER", "nowcasters (a name, local-dir:FOLDER, or a .pt checkpoint)")
    command.set_defaults(run=_run_gain)


def _add_words(command: argparse.ArgumentParser, word: str, described: str) -> None:
    """Names and settings, in any order."""
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    command.add_argument(
        "words", nargs="*", metavar=f"{word} | KEY=VALUE", help=f"{described}; and settings such as 'seeds=[0,1]'"
    )


def _add_settings(command: argparse.ArgumentParser, example: str) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    command.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=f"a setting, such as {example}")


def _add_encode(commands: _Commands) -> None:
    command = commands.add_parser("encode", help="describe the neural graph of a network")
    command.add_argument(
        "model",
        metavar="MODEL",
        help="task:NAME, timm:NAME, or package.module:callable that makes the network when called without arguments",
    )
    command.add_argument("--plot", type=Path, metavar="FILE", help="draw it too: a .png, .svg or .pdf file")
    command.set_defaults(run=_run_encode)


def _add_pretrain(commands: _Commands) -> None:
    command = commands.add_parser(
        "pretrain",
        help="meta-train a nowcaster on collected trajectories",
        description="Meta-train a nowcaster on collected trajectories, and write it as an entry of the zoo; the same "
        "command goes on where it was stopped.",
    )
    _add_settings(command, "steps=5000")
    command.set_defaults(run=_run_pretrain)


def _run_compare(options: argparse.Namespace) -> None:
    from ninokit.benchmarks.evaluation.evaluate import compare
    from ninokit.benchmarks.evaluation.report import format_evaluation
    from ninokit.benchmarks.evaluation.settings import CompareConfig

    config = _config_with_arms(CompareConfig, options)
    print(format_evaluation(compare(config)))
    print(f"Written to {config.out}: evaluation.json, evaluation.md, savings.png, {config.task}.png")


def _config_with_arms(schema: type[T], options: argparse.Namespace) -> T:
    """The settings of a command whose words name its arms."""
    from ninokit.configuration import load_config, split_words

    arms, settings = split_words(options.words)
    return load_config(schema, options.config, [*settings, *([f"arms={json.dumps(arms)}"] if arms else [])])


def _run_collect(options: argparse.Namespace) -> None:
    from ninokit.configuration import load_config
    from ninokit.pretraining.collect import collect
    from ninokit.pretraining.collect_config import CollectConfig

    config = load_config(CollectConfig, options.config, options.settings)
    print(collect(config).describe())
    print(f"Trajectories in {config.out}")


def _run_pretrain(options: argparse.Namespace) -> None:
    from ninokit.configuration import load_config
    from ninokit.pretraining.pretrain import pretrain
    from ninokit.pretraining.pretrain_config import PretrainConfig

    entry = pretrain(load_config(PretrainConfig, options.config, options.settings), options.config)
    print(f"Written: the entry {entry}; beside it the checkpoint and the curves")


def _run_evaluate(options: argparse.Namespace) -> None:
    from ninokit.benchmarks.evaluation.evaluate import evaluate
    from ninokit.benchmarks.evaluation.report import format_evaluation
    from ninokit.benchmarks.evaluation.settings import EvaluateConfig

    config = _config_with_arms(EvaluateConfig, options)
    print(format_evaluation(evaluate(config)))
    print(f"Written to {config.out}: evaluation.json, evaluation.md, savings.png, a picture a task")


def _run_gain(options: argparse.Namespace) -> None:
    from ninokit.benchmarks.gain.command import measure_task
    from ninokit.benchmarks.gain.settings import GainConfig
    from ninokit.configuration import load_config, split_words

    nowcasters, settings = split_words(options.words)
    config = load_config(GainConfig, options.config, settings)
    print(measure_task(options.task, nowcasters, config).to_markdown())
    print(f"Written to {config.out}: gain.json, gain.md, gain.png")


def _run_encode(options: argparse.Namespace) -> None:
    graph = ninokit.encode(*_network(options.model))
    drawn = "" if options.plot is None else f"\n\nDrawn in {graph.plot(options.plot)}"
    print(graph.describe() + drawn)


def _run_tasks(options: argparse.Namespace) -> None:
    from ninokit.plugins import registry

    tasks = registry().tasks().values()
    width = max((len(task.name) for task in tasks), default=0)
    for task in tasks:
        held_out = " (held out)" if task.held_out else ""
        print(f"{task.name:<{width}}  target {task.target:<6g} {task.description}{held_out}")


def _network(source: str) -> tuple[nn.Module, Tensor | None]:
    """A network, and what it is called with where that is known."""
    from torch import nn

    if source.startswith(_TASK_PREFIX):
        from ninokit.benchmarks.tasks.finding import find_task

        task = find_task(source.removeprefix(_TASK_PREFIX))
        return task.build_model(), task.example_inputs()
    if source.startswith(_TIMM_PREFIX):
        return _timm_model(source.removeprefix(_TIMM_PREFIX)), None
    module_name, colon, name = source.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"encode: expected task:NAME, timm:NAME or package.module:callable; got {source!r}")
    model = _factory(module_name, name)()
    if not isinstance(model, nn.Module):
        raise ConfigError(f"encode: {source} must return a torch.nn.Module; got a {type(model).__name__}")
    return model, None


def _timm_model(name: str) -> nn.Module:
    """A network of timm without numbers, which takes no memory however large it is."""
    import torch

    timm = require("timm", f"encode {_TIMM_PREFIX}{name}", "timm")
    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(name)
    except (RuntimeError, ValueError) as error:  # as timm says that there is none of that name
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        reason = str(error).rstrip(".")
        raise ConfigError(f"encode: timm makes no network called {name!r}: {reason}.{hint}") from error
    return model


def _factory(module_name: str, name: str) -> Callable[[], object]:
    # Modules in the current folder count, as with `python -m`; an installed script does not see them.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"encode: {module_name}:{name} can't be imported: {error}. Correct the name") from error
    if not callable(factory):
        raise ConfigError(f"encode: {module_name}:{name} must be callable; got a {type(factory).__name__}")
    made: Callable[[], object] = factory
    return made
