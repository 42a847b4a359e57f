"""The plugin as a whole."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

from ninokit.plugins import registry
from ninokit.testing import check_plugin


def test_everything_is_registered():
    known = registry()
    assert next(iter(known.architectures())) == "siren"
    assert "holt" in known.nowcasters()
    assert "siren_petals" in known.tasks()
    assert "nadam" in known.arms()
    assert "holt_siren.petals" in known.zoo()
    assert "ninokit_siren.sine" in known.tracer_rules()
    (plugin,) = [plugin for plugin in known.plugins() if plugin.name == "siren"]
    assert (plugin.distribution, plugin.version) == ("ninokit-siren", metadata.version("ninokit-siren"))
    assert "ninokit_on_nowcast" in plugin.hooks
    assert plugin.faults == []


def test_conformance():
    report = check_plugin("siren")
    assert report.passed, str(report)


def test_importing_it_imports_no_pytorch():
    code = "import sys, ninokit_siren; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
