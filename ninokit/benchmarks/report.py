"""The results of a comparison as files: ``results.json`` for machines, ``summary.md`` for people."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ninokit._version import installed_version
from ninokit.benchmarks.metric import Better
from ninokit.benchmarks.summary import Row, format_table, summarize
from ninokit.benchmarks.training import NOWCASTING, EvalPoint, RunRecord
from ninokit.errors import ConfigError
from ninokit.training import NowcastEvent


@dataclass(frozen=True)
class Results:
    """What a comparison has found so far.

    Args:
        config: the settings, plain values only; among them ``task``, ``nowcaster``, ``target``, the ``metric``'s name
            and whether ``higher`` or ``lower`` scores are ``better``.
        environment: versions and machine, as from `describe_environment`.
        runs: the finished runs.
    """

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    runs: tuple[RunRecord, ...]

    @property
    def better(self) -> Better:
        """The direction of the scores."""
        return Better(self.config["better"])

    @property
    def summary(self) -> tuple[Row, ...]:
        """Steps and seconds to the target, a row a seed and one for the median."""
        return summarize(self.runs, self.config["target"], self.better)


def describe_environment(device: str) -> dict[str, Any]:
    """Everything that a timing depends on.

    Args:
        device: where the runs take place, ``"cpu"`` or ``"cuda"``.

    Returns:
        Versions, processor, threads, and the commit of ninokit if it runs from a git checkout (else None).
    """
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ninokit": installed_version(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
        "commit": _commit(),
    }


def describe_hardware(environment: Mapping[str, Any]) -> str:
    """What the seconds depend on most.

    Args:
        environment: as from `describe_environment`.

    Returns:
        The GPU or the processor, and how many threads.
    """
    machine = environment["device"] if environment["device"] != "cpu" else environment["processor"]
    return f"{machine}, threads {environment['threads']}"


def _processor() -> str:
    """The processor's name; where the platform module has none (Linux), as the kernel gives it."""
    kernel = Path("/proc/cpuinfo")
    if kernel.is_file():
        for line in kernel.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    # A stranger's repository may hold the environment that ninokit is installed in; its commit would mislead.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def write_results(results: Results, path: Path) -> None:
    """Write the results, replacing the file in one go, so that it is whole at every moment.

    Args:
        results: what to write.
        path: the JSON file; its folder must exist.
    """
    document = {
        "config": dict(results.config),
        "environment": dict(results.environment),
        "summary": [asdict(row) for row in results.summary],
        "runs": [asdict(run) for run in results.runs],
    }
    write_json(document, path)


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write plain values, replacing the file in one go; null stands for a number that is not finite.

    Args:
        document: what to write.
        path: the JSON file; its folder must exist.
    """
    text = json.dumps(_without_nonfinite(document), indent=1, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, replacing what was there in one go.

    Args:
        path: the file; its folder must exist.
        text: its whole content.
    """
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _without_nonfinite(value: Any) -> Any:
    """JSON has neither NaN nor infinity (the losses of a run that diverged): null stands for them."""
    if isinstance(value, Mapping):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Args:
        path: the JSON file.

    Returns:
        The results; a loss that was infinite comes back as NaN.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(run_from_json(run) for run in document["runs"])
        return Results(document["config"], document["environment"], runs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected the results.json of a comparison; got {type(error).__name__}: {error}. "
            "Give the file that `ninokit compare` wrote"
        ) from error


def run_from_json(run: Mapping[str, Any]) -> RunRecord:
    """A run from its part of a JSON file.

    Args:
        run: what `dataclasses.asdict` made of it, null for a number that was not finite.

    Returns:
        The run; such a number is NaN.
    """
    return RunRecord(
        method=run["method"],
        seed=run["seed"],
        points=tuple(EvalPoint(**_without_null(point)) for point in run["points"]),
        events=tuple(NowcastEvent(**event) for event in run["events"]),
    )


def _without_null(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in point.items()}


def format_summary(results: Results) -> str:
    """The summary for people, in Markdown.

    Args:
        results: of a comparison.

    Returns:
        A title, the table, how many nowcasts were accepted and refused, and where it ran.
    """
    config = results.config
    machine = ", ".join(f"{key} {value}" for key, value in results.environment.items() if value is not None)
    return "\n".join(
        (
            f"# {config['task']}: AdamW with and without nowcasting by {config['nowcaster']}",
            "",
            f"Steps and training seconds to a {config['metric']} of {config['target']:g}:",
            "",
            format_table(results.summary),
            "",
            _nowcasts(results.runs),
            "",
            f"{machine}.",
            "",
        )
    )


def _nowcasts(runs: Sequence[RunRecord]) -> str:
    events = [event for run in runs if run.method == NOWCASTING for event in run.events]
    accepted = sum(event.accepted for event in events)
    seconds = sum(event.seconds for event in events)
    return f"Nowcasts: {accepted} accepted, {len(events) - accepted} refused, {seconds:.2f} s in all."
