"""`ninokit plugins list`: what it shows, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
from strangers import Entry, offering, plugin

from ninokit.cli import main
from ninokit.plugins.discovery import LOAD, STRICT

pytestmark = pytest.mark.usefixtures("_logging_as_before")


def fails() -> None:
    raise ValueError("out of\norder")


ENTRIES = [
    Entry("mlp", offering("mlp"), "ninokit", "0.1.0"),
    Entry("waves", plugin(**vars(offering("waves", "mlp")), ninokit_tasks=fails), "ninokit-waves", "2.0"),
    Entry("late", ImportError("no module"), "tardy", "0.1"),
    Entry("future", SimpleNamespace(ninokit_api=2), "newer", "9.0"),
    Entry("other", ImportError("not imported"), "stranger", "1.2"),
]


@pytest.fixture(autouse=True)
def _strangers(monkeypatch):
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: ENTRIES)
    monkeypatch.setenv(LOAD, "mlp,waves,late,future")
    monkeypatch.delenv(STRICT, raising=False)


API = (
    "it was written for version 2 of the plugin API (ninokit_api), this ninokit has version 1; install a newer ninokit"
)

TABLE = f"""\
PLUGIN  DISTRIBUTION       STATUS      ORIGIN         REGISTERS
waves   ninokit-waves 2.0  loaded      waves_module   architectures, tasks
other   stranger 1.2       not chosen  other_module
late    tardy 0.1          left out    late_module
    ImportError: no module
future  newer 9.0          left out    future_module
    {API}
mlp     ninokit 0.1.0      loaded      mlp_module     architectures
"""

NAMES = f"""\
PLUGIN  DISTRIBUTION       STATUS      ORIGIN         REGISTERS
waves   ninokit-waves 2.0  loaded      waves_module   architectures (waves mlp), tasks
    ninokit_tasks: ValueError: out of order
other   stranger 1.2       not chosen  other_module
late    tardy 0.1          left out    late_module
    ImportError: no module
future  newer 9.0          left out    future_module
    {API}
mlp     ninokit 0.1.0      loaded      mlp_module     architectures
    ninokit_architectures: 'mlp' is offered already by ninokit-waves 2.0, which is kept
"""


@pytest.mark.parametrize(("flags", "expected"), [([], TABLE), (["--names"], NAMES)])
def test_table(capsys, flags, expected):
    assert main(["plugins", "list", *flags]) == 0
    assert capsys.readouterr().out == expected


def test_json(capsys):
    assert main(["plugins", "list", "--names", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == ["waves", "other", "late", "future", "mlp"]
    assert listed[0] == {
        "name": "waves",
        "distribution": "ninokit-waves",
        "version": "2.0",
        "entry_point": "waves_module",
        "file": "",
        "status": "loaded",
        "hooks": ["ninokit_architectures", "ninokit_tasks"],
        "offers": {"ninokit_architectures": ["waves", "mlp"], "ninokit_tasks": []},
        "faults": ["ninokit_tasks: ValueError: out of\norder"],
    }
    assert [entry["status"] for entry in listed[1:]] == ["not chosen", "left out", "left out", "loaded"]


def test_faults_are_listed_in_strict_mode_too(capsys, monkeypatch):
    monkeypatch.setenv(STRICT, "1")
    assert main(["plugins", "list"]) == 0
    assert capsys.readouterr().out == TABLE


def test_what_a_plugin_prints_is_no_part_of_the_listing(capsys, monkeypatch):
    class Loud(Entry):
        def load(self) -> object:
            sys.stdout.write("hello\n")
            return super().load()

    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [Loud("mlp", offering("mlp"))])
    assert main(["plugins", "list", "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 1
    assert captured.err == "hello\n"


def test_listing_imports_nothing_heavy():
    heavy = ["torch", "numpy", "dgl", "matplotlib", "omegaconf", "timm", "transformers", "zarr"]
    code = (
        "import sys\nfrom ninokit.cli import main\nmain(['plugins', 'list'])\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in {LOAD, STRICT}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    *table, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert {line.split()[0] for line in table} >= {"mlp", "cnn", "timm", "transformers", "tracer", "nowcasters"}
