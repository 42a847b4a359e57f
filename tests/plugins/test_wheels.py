"""The distributions as users get them: wheels in a fresh environment, used from outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "plugins" / "example"


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """What a command prints; it sees no source of the repository, and no settings of ninokit."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("NINOKIT_", "PYTHONPATH", "PYTEST_"))}
    kept |= {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", **environment}
    done = subprocess.run([*map(str, command)], cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(project: Path, folder: Path) -> Path:
    """Build a distribution from a copy of it, so that its folder stays as it is."""
    source = shutil.copytree(project, folder / "source", ignore=shutil.ignore_patterns(".*", "__pycache__", "runs"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, "--wheel-dir", folder / "wheels", source], folder)
    (wheel,) = (folder / "wheels").iterdir()
    return wheel


def make_environment(folder: Path, wheels: Sequence[Path]) -> Path:
    """A virtual environment with these wheels, which sees the other packages of this one but not its ninokit.

    A path file is read in site-packages alone: editable installations of this environment are not followed.
    """
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    (packages,) = folder.glob("lib/python*/site-packages") if os.name != "nt" else folder.glob("Lib/site-packages")
    theirs = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (packages / "theirs.pth").write_text("\n".join(theirs) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--ignore-installed", *wheels], folder)
    return python


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> list[Path]:
    pytest.importorskip("hatchling")
    return [build_wheel(project, tmp_path_factory.mktemp(project.name)) for project in (ROOT, EXAMPLE)]


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheels) -> Path:
    return make_environment(tmp_path_factory.mktemp("fresh"), wheels)


def test_the_fresh_environment_has_the_wheels(python, tmp_path):
    code = "import ninokit as a, ninokit_mlp as b, ninokit_siren as c; print(a.__file__, b.__file__, c.__file__)"
    files = [Path(file) for file in run([python, "-c", code], tmp_path).split()]
    assert [file.parents[1].name for file in files] == ["site-packages"] * 3
    assert {file.parents[5] for file in files} == {python.parents[2]}


def test_the_examples_network_is_nowcast(python, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import ninokit, torch\n"
        "from ninokit_siren.network import Siren\n"
        "torch.manual_seed(0)\n"
        "model = Siren(2, 16, depth=3, out_features=1)\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)\n"
        "nowcasting = ninokit.attach(optimizer, model, 'holt_siren.petals', period=10, total_steps=100)\n"
        "points = torch.rand(64, 2)\n"
        "for _ in range(35):\n"
        "    optimizer.zero_grad()\n"
        "    (model(points) - points.prod(dim=1, keepdim=True)).square().mean().backward()\n"
        "    optimizer.step()\n"
        "print(ninokit.encode(model).num_parameters, [event.accepted for event in nowcasting.events])\n"
    )
    log = tmp_path / "log.jsonl"
    parameters = 2 * 16 + 16 + 16 * 16 + 16 + 18 * 16 + 16 + 3 * 16 + 16 + 1
    assert run([python, script], tmp_path, NINOKIT_SIREN_LOG=str(log)) == f"{parameters} [True, True, True]\n"
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 20, 30]


def test_the_example_is_listed_first(python, tmp_path):
    listed = json.loads(run([python.with_name("ninokit"), "plugins", "list", "--names", "--json"], tmp_path))
    siren = listed[0]
    assert (siren["name"], siren["distribution"], siren["status"], siren["faults"]) == (
        *("siren", "ninokit-siren", "loaded", []),
    )
    assert siren["offers"] == {
        "ninokit_architectures": ["siren"],
        "ninokit_arms": ["nadam"],
        "ninokit_nowcasters": ["holt"],
        "ninokit_tasks": ["siren_petals"],
        "ninokit_tracer_rules": ["ninokit_siren.sine"],
        "ninokit_zoo": ["holt_siren.petals"],
    }
    assert all(
        entry["status"] == "loaded" and not entry["faults"] for entry in listed if entry["distribution"] == "ninokit"
    )


def test_the_examples_own_tests_pass(python, tmp_path):
    for name in ("tests", "pyproject.toml"):
        source = EXAMPLE / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    assert " passed" in run([python, "-m", "pytest", "-q"], tmp_path).splitlines()[-1]


def test_the_tests_of_a_new_plugin_pass(python, wheels, tmp_path):
    run([python.with_name("ninokit"), "plugins", "new", "gated-net", "--path", "new"], tmp_path)
    wheel = build_wheel(tmp_path / "new", tmp_path)
    fresh = make_environment(tmp_path / "environment", [wheels[0], wheel])
    assert "4 passed" in run([fresh, "-m", "pytest", "-q", "-W", "error"], tmp_path / "new").splitlines()[-1]
    report = run([fresh.with_name("ninokit"), "plugins", "check", "gated-net"], tmp_path)
    assert "passed   architecture gated-net: proof of example 0 " in report
    assert " passed, 0 failed, " in report.splitlines()[-1]
