"""Arms by their names."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from ninokit.benchmarks.arms import finding
from ninokit.benchmarks.arms.adamw import ADAMW
from ninokit.benchmarks.arms.finding import find_arm
from ninokit.benchmarks.arms.muon import MUON
from ninokit.benchmarks.arms.snoo import SNOO
from ninokit.errors import CheckpointError, ConfigError
from ninokit.nowcasters import LineFit
from ninokit.plugins import registry


def test_registered_arms():
    arms = registry().arms()
    assert set(arms) >= {"adamw", "adamw_linear", "schedule_free", "muon", "snoo"}
    assert all(find_arm(name) is arm for name, arm in arms.items())
    assert all(arm.name == name and arm.description and not arm.nowcasts for name, arm in arms.items())
    assert {name for name, arm in arms.items() if arm.optimizers is not None} >= {"adamw", "muon"}
    assert all(arm.weights_sha256 is None for arm in arms.values())


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("linefit", "linefit"),
        ("adamw+linefit", "linefit"),
        ("muon+linefit", "muon+linefit"),
        ("wnn_h32.v1", "wnn_h32.v1"),
        ("wnn_h64", "wnn_h64.v1"),
        ("muon+wnn_h64", "muon+wnn_h64.v1"),
    ],
)
def test_a_nowcaster_is_called_as_on_its_card(name, called):
    assert find_arm(name).name == called


def test_weights_tell_nowcasters_apart():
    first, again, other = (find_arm(name) for name in ("wnn_h64.v1", "muon+wnn_h64", "wnn_h32.v1"))
    assert re.fullmatch("[0-9a-f]{64}", first.weights_sha256)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert find_arm("linefit").weights_sha256 is None


def test_missing_checkpoint():
    with pytest.raises(CheckpointError):
        find_arm("no_such_file.pt")


class Few:
    """A registry of two arms and two families."""

    def arms(self):
        return {"adamw": ADAMW, "muon": MUON, "snoo": SNOO}

    def nowcasters(self):
        return {"linefit": LineFit, "learnt": SimpleNamespace(needs_weights=True)}


@pytest.fixture
def _few(monkeypatch):
    monkeypatch.setattr(finding, "registry", Few)
    monkeypatch.setattr(finding.zoo, "list", lambda pattern="*": ["wnn_h32.v1"] if pattern == "*" else [])


KNOWN = "Known arms: adamw, muon, snoo; nowcasters, on AdamW: linefit, wnn_h32.v1; and adamw+NOWCASTER, muon+NOWCASTER"


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adamv", " Did you mean 'adamw'?"),
        ("lineft", " Did you mean 'linefit'?"),
        ("wnn_h32.v2", " Did you mean 'wnn_h32.v1'?"),
        ("muon+linefti", " Did you mean 'muon+linefit'?"),
        ("muon+", ""),
        ("moun+linefit", " Did you mean 'linefit'?"),
        ("", ""),
        ("???", ""),
    ],
)
def test_unknown_arm(name, hint):
    with pytest.raises(ConfigError, match=f"^{re.escape(f'no arm is called {name!r}.{hint} {KNOWN}')}$"):
        find_arm(name)
