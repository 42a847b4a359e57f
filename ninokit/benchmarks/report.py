"""Where something was measured, and files that are whole at every moment."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ninokit._version import installed_version
from ninokit.benchmarks.training import EvalPoint, RunRecord
from ninokit.training import NowcastEvent


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
