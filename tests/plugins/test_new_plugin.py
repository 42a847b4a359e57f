"""`ninokit plugins new`: what it writes, and what it refuses. That its tests pass is in test_wheels.py."""

from __future__ import annotations

import re

import pytest

from ninokit.cli import main
from ninokit.errors import PluginError
from ninokit.plugins.project import write_project

pytestmark = pytest.mark.usefixtures("_logging_as_before")


def test_what_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "deep-set_2"]) == 0
    assert capsys.readouterr().out.startswith(
        "Written to ninokit-deep-set-2. Install it and run its tests: pip install "
    )
    folder = tmp_path / "ninokit-deep-set-2"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "README.md",
        "pyproject.toml",
        "src/ninokit_deep_set_2/__init__.py",
        "src/ninokit_deep_set_2/encoder.py",
        "src/ninokit_deep_set_2/network.py",
        "tests/test_ninokit_deep_set_2.py",
    ]
    project = (folder / "pyproject.toml").read_text().splitlines()
    assert 'name = "ninokit-deep-set-2"' in project
    assert project[project.index("[project.entry-points.ninokit]") + 1] == 'deep-set_2 = "ninokit_deep_set_2"'
    assert "class DeepSet2Network(nn.Module):" in (folder / files[4]).read_text()
    assert not any("$" in (folder / file).read_text().replace("Linear$", "") for file in files)


def test_folder(tmp_path):
    assert write_project("gated", tmp_path / "some" / "where") == tmp_path / "some" / "where"
    with pytest.raises(
        PluginError, match=f"^new plugin: {re.escape(str(tmp_path))} exists already; remove it, or choose "
    ):
        write_project("gated", tmp_path)


@pytest.mark.parametrize("name", ["", "Gated", "2d", "a b", "a--b", "-a", "a_", "../a", "é"])
def test_names_that_there_are_not(tmp_path, name):
    with pytest.raises(
        PluginError, match=r"^new plugin: expected a name of lower-case .*; got " + re.escape(repr(name))
    ):
        write_project(name, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_name_that_is_taken(tmp_path, capsys):
    assert main(["plugins", "new", "mlp", "--path", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"ninokit: new plugin: 'mlp' is the name of a plugin of ninokit \S+; choose another one\n", error
    )
