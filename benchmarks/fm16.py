"""The published vision task FM-16, AdamW with and without a nowcaster, seeds side by side.

    python benchmarks/fm16.py --data-root DATA --nowcaster nino_no_posw.pt --out docs/fm16

Every seed is a `ninokit compare` of its own in a process of one thread, so that as many run at once as there are
seeds; their results are put together in OUT: results.json, summary.md, curves.png. Runs end at the target.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from ninokit.benchmarks.plot import plot_results
from ninokit.benchmarks.report import Results, format_summary, read_results, write_results, write_text


def main() -> None:
    options = parse_options()
    folders = {seed: options.out / str(seed) for seed in options.seeds}
    runs = [subprocess.Popen(command(options, seed, folder)) for seed, folder in folders.items()]
    if any(run.wait() for run in runs):
        sys.exit("a comparison failed; its message is above")
    results = together([read_results(folder / "results.json") for folder in folders.values()], options.seeds)
    write_results(results, options.out / "results.json")
    write_text(options.out / "summary.md", format_summary(results))
    plot_results(results, options.out / "curves.png")
    print(format_summary(results))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder that holds FashionMNIST/raw")
    parser.add_argument("--nowcaster", required=True, help="a nowcaster's name or the path of a checkpoint")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--out", type=Path, default=Path("runs/fm16"))
    return parser.parse_args()


def command(options: argparse.Namespace, seed: int, folder: Path) -> list[str]:
    settings = {
        "task": "fm16",
        "seeds": f"[{seed}]",
        "data_root": options.data_root,
        "nowcaster": options.nowcaster,
        "out": folder,
        "threads": 1,
        "stop_at_target": "true",
    }
    return ["ninokit", "compare", *(f"{key}={value}" for key, value in settings.items())]


def together(parts: list[Results], seeds: list[int]) -> Results:
    """All runs in one, under the name of the nowcaster rather than its path."""
    config = {**parts[0].config, "seeds": seeds, "nowcaster": Path(parts[0].config["nowcaster"]).name}
    for path in ("data_root", "out"):
        config.pop(path)
    return replace(parts[0], config=config, runs=tuple(run for part in parts for run in part.runs))


if __name__ == "__main__":
    main()
