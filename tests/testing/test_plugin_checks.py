"""The conformance kit: a sound plugin passes, and every kind of fault is found."""

from __future__ import annotations

import itertools
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from ninokit.cli import main
from ninokit.errors import PluginError
from ninokit.nowcasters import Wnn
from ninokit.plugins import registry
from ninokit.plugins.discovery import LOAD
from ninokit.testing import check_plugin
from ninokit.zoo import Card, TrainingRun, TrainingTask, write_entry

SOUND = """
import ninokit

ninokit_api = 1

@ninokit.hookimpl
def ninokit_architectures():
    import torch
    from torch import nn
    from ninokit.errors import UnsupportedModelError
    from ninokit.graph import EdgeKind, GraphBuilder

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.randn(5, 3))
            self.last = nn.Parameter(torch.randn(2, 5))

        def forward(self, x):
            return torch.tanh(x @ self.first.T) @ self.last.T

    def encode(model, example_inputs=None):
        if not isinstance(model, Scaled):
            raise UnsupportedModelError("no Scaled")
        builder = GraphBuilder(model)
        inputs, hidden, outputs = (builder.neurons(*group) for group in (("in", 3), ("mid", 5), ("out", 2)))
        builder.edges(EdgeKind.LINEAR, inputs, hidden, parameter="first", axes="dst src")
        builder.edges(EdgeKind.LINEAR, hidden, outputs, parameter="last", axes="dst src")
        return builder.build()

    def examples():
        return [(Scaled(), torch.randn(4, 3))]

    return [ninokit.Architecture("scaled", "", lambda model: isinstance(model, Scaled), encode, examples)]

@ninokit.hookimpl
def ninokit_tracer_rules():
    return {"aten.polar": lambda call: call.axes(0)}

@ninokit.hookimpl
def ninokit_nowcasters():
    from ninokit.nowcasters import Nowcaster
    from ninokit.nowcasters.base import check_forecast, forecast_dtype

    class Still(Nowcaster):
        needs_graph, context, max_horizon = False, 3, 7

        def forecast(self, graph, history, horizon):
            check_forecast(self, graph, history, horizon)
            for name, states in history.items():
                yield name, states[-1].to(forecast_dtype(states))

    return {"still": Still}

@ninokit.hookimpl
def ninokit_tasks():
    import torch
    from torch import nn
    from ninokit.benchmarks import ClassificationData, Task

    def load(root):
        inputs, labels = torch.eye(2), torch.arange(2)
        return ClassificationData(train_inputs=inputs, train_labels=labels, test_inputs=inputs, test_labels=labels)

    def build():
        return nn.Linear(2, 2)

    numbers = dict(batch_size=2, lr=0.1, total_steps=100, eval_every=10, target=1.0, period=20)
    return [Task(name="halves", description="", build_model=build, load_data=load, **numbers)]

@ninokit.hookimpl
def ninokit_on_nowcast(event):
    assert event.accepted or event.reason
"""

# What is broken, by what: the check that fails, and what it says.
FAULTS = {
    "heavy import": (
        ("import ninokit\n", "import ninokit, torch\n"),
        ("import", r"importing stranger\d+ imports PyTorch; import inside the hooks what they offer"),
    ),
    "API version": (
        ("ninokit_api = 1", "ninokit_api = 2"),
        ("registration", "it was written for version 2 of the plugin API .*"),
    ),
    "no examples": (
        ("return [(Scaled(), torch.randn(4, 3))]", "return []"),
        ("architecture scaled: examples", "there are none; .*"),
    ),
    "examples that fail": (
        ("return [(Scaled(), torch.randn(4, 3))]", "return [Scaled(1)]"),
        ("architecture scaled: examples", "TypeError: .*"),
    ),
    "wrong graph": (
        ("torch.tanh(x @ self.first.T)", "torch.tanh(x @ self.first.T).cumsum(-1)"),
        ("architecture scaled: proof of example 0", "Scaled: neurons that the graph calls interchangeable are not.*"),
    ),
    "encode that breaks": (
        ('            raise UnsupportedModelError("no Scaled")', "            model.missing"),
        (
            "architecture scaled: errors",
            "encode of Bilinear without example inputs: expected UnsupportedModelError with the reason, got Attr.*",
        ),
    ),
    "no reason": (
        ('UnsupportedModelError("no Scaled")', "UnsupportedModelError()"),
        ("architecture scaled: errors", "UnsupportedModelError for Bilinear has no message; say why it is declined"),
    ),
    "inputs that matter": (
        ('("in", 3)', '("in" if example_inputs is None else "inputs", 3)'),
        ("architecture scaled: errors", "Scaled has another graph without example inputs; .*"),
    ),
    "operator": (
        ('"aten.polar"', '"aten.polaar"'),
        ("tracer rule aten.polaar: operator", r"PyTorch knows no operator torch\.ops\.aten\.polaar, .*"),
    ),
    "shape": (
        ("states[-1].to(", "states.to("),
        (
            "nowcaster still: forecast",
            r"0\.weight: expected shape \(4, 3\) in torch\.float32 at least, got \(3, .*",
        ),
    ),
    "precision": (
        (".to(forecast_dtype(states))", ".clone()"),
        ("nowcaster still: forecast", r".*torch\.float32 at least, got \(4, 3\) in torch\.bfloat16"),
    ),
    "parameters left out": (
        ("in history.items()", "in list(history.items())[:-1]"),
        ("nowcaster still: forecast", r"expected a prediction of each of \['0\.bias', .*"),
    ),
    "history": (
        ("states[-1].to(", "states[-1].mul_(2).to("),
        ("nowcaster still: forecast", r"it changes the history of 0\.weight, .*; copy what is to be changed"),
    ),
    "no errors": (
        ("            check_forecast(self, graph, history, horizon)\n", ""),
        ("nowcaster still: errors", "horizon 0: expected ForecastError, got a forecast; .*"),
    ),
    "context": (
        ("False, 3, 7", "False, 0, 7"),
        ("nowcaster still: forecast", "context: expected a whole number, at least 1, got 0"),
    ),
    "arguments": (
        ("        def forecast", "        def __init__(self, width): pass\n\n        def forecast"),
        ("nowcaster still: errors", r"Still\(\) can't be built without arguments: .*"),
    ),
    "other seeds": (
        ("return nn.Linear(2, 2)", "torch.seed(); return nn.Linear(2, 2)"),
        ("task halves: network", r"two networks of one seed differ \(weight, bias\); .*"),
    ),
    "loss": (
        ("torch.eye(2), torch", "torch.eye(2) / 0, torch"),
        ("task halves: training", r"expected a finite loss that depends on all parameters, got nan, not on \[\]"),
    ),
    "data": (
        ("def load(root):", "def load(root):\n        raise SystemExit('gone')\n"),
        ("task halves: training", "SystemExit: gone"),
    ),
    "observer": (
        ("assert event.accepted or event.reason", "assert event.accepted"),
        ("observer", "ninokit_on_nowcast of plugin 'theirs', registered by hand: AssertionError.*"),
    ),
}

NUMBERS = itertools.count()


class Distribution:
    """Of a plugin that is not installed."""

    name, version = "stranger", "1.2"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write a module, and announce it beside the installed plugins."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    installed = [entry for entry in metadata.entry_points(group="ninokit") if entry.dist.name == "ninokit"]

    def write(code: str) -> None:
        module = f"stranger{next(NUMBERS)}"
        Path(tmp_path, f"{module}.py").write_text(code)
        entry = metadata.EntryPoint("theirs", module, "ninokit")._for(Distribution())
        monkeypatch.setattr(metadata, "entry_points", lambda *, group: [*installed, entry])

    registry.cache_clear()  # networks of tasks are encoded by the families of this process
    yield write
    registry.cache_clear()
    for name in [name for name in sys.modules if re.fullmatch(r"stranger\d+", name)]:
        del sys.modules[name]


def test_sound_plugin(install, dgl_installed):
    install(SOUND)
    report = check_plugin("theirs")
    assert report.passed
    assert [finding.outcome.value for finding in report.findings] == ["passed"] * 13
    lines = str(report).splitlines()
    assert lines[0] == "theirs (stranger 1.2)"
    assert lines[3].endswith("  architectures, nowcasters, on_nowcast, tasks, tracer_rules")
    assert lines[5].endswith("100.0% of the parameters moved, the output stayed; the numbers came back from the edges")
    assert lines[-1] == "13 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize("name", FAULTS)
def test_faults(install, name):
    (sound, broken), (title, message) = FAULTS[name]
    assert sound in SOUND
    install(SOUND.replace(sound, broken))
    report = check_plugin("theirs")
    details = {finding.title: finding.detail for finding in report.findings if finding.outcome.value == "FAILED"}
    assert not report.passed
    assert re.fullmatch(message, details[title], re.DOTALL)
    if name not in {"arguments", "context"}:  # which two checks need
        assert list(details) == [title]


def test_plugin_that_is_not_loaded_has_no_further_checks(install):
    install("import nothing_of_this_name")
    report = check_plugin("theirs")
    assert [(finding.title, finding.outcome.value) for finding in report.findings] == [
        ("import", "FAILED"),
        ("API version", "skipped"),
        ("registration", "FAILED"),
    ]
    assert report.findings[-1].detail == "ModuleNotFoundError: No module named 'nothing_of_this_name'"


def test_without_a_version(install):
    install(SOUND.replace("ninokit_api = 1", ""))
    report = check_plugin("theirs")
    assert report.passed
    assert report.findings[1].detail == "not declared (ninokit_api = 1); taken as 1"


def test_weights_to_learn_may_need_arguments(install):
    code = SOUND.replace("        def forecast", "        def __init__(self, width): pass\n\n        def forecast")
    install(
        code.replace("needs_graph, context", "needs_weights, needs_graph, context").replace(
            "False, 3", "True, False, 3"
        )
    )
    report = check_plugin("theirs")
    assert report.passed
    assert {f.title for f in report.findings if f.detail == "Still() needs arguments"} == {
        "nowcaster still: forecast",
        "nowcaster still: errors",
    }


def test_entries_of_the_zoo(install, tmp_path):
    torch.manual_seed(0)
    card = Card(
        name="wnn_h4.theirs",
        description="a small one",
        family="wnn",
        arguments={"hidden": 4, "context": 3, "max_horizon": 5},
        context=3,
        period=10,
        max_horizon=5,
        positions=None,
        licence="MIT",
        trained_on=[TrainingTask(task="halves")],
        training=TrainingRun(),
    )
    folder = tmp_path / "entry"
    write_entry(folder, Wnn(hidden=4, context=3, max_horizon=5), card)
    install(f"import ninokit\n@ninokit.hookimpl\ndef ninokit_zoo():\n    return [{str(folder)!r}]\n")
    *_, finding = check_plugin("theirs").findings
    assert (finding.title, finding.outcome.value) == ("zoo entry wnn_h4.theirs: forecast", "passed")
    assert finding.detail == "context 3, horizons 1 and 5, in float32, float64 and bfloat16"
    (folder / "weights.safetensors").write_bytes(b"tampered")
    *_, finding = check_plugin("theirs").findings
    assert (finding.title, finding.outcome.value) == ("zoo entry wnn_h4.theirs: forecast", "FAILED")
    assert "sha256" in finding.detail


def test_interruption_passes(install):
    install(SOUND.replace("def examples():", "def examples():\n        raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        check_plugin("theirs")


def test_unknown_plugin():
    with pytest.raises(PluginError, match=r"^plugin: none is named 'mpl'; installed are \[.*\]; did you mean 'mlp'\?$"):
        check_plugin("mpl")


def test_plugin_that_is_not_chosen(monkeypatch):
    monkeypatch.setenv(LOAD, "cnn")
    with pytest.raises(
        PluginError, match=r"^plugin: 'mlp' is left out by NINOKIT_LOAD_PLUGINS; add it there to check it$"
    ):
        check_plugin("mlp")


@pytest.mark.parametrize("name", ["mlp", "tracer", "nowcasters", "tasks"])
def test_built_in_plugins_pass(name):
    assert check_plugin(name).passed


@pytest.mark.usefixtures("_logging_as_before")
def test_command(install, capsys):
    install(SOUND)
    assert main(["plugins", "check", "theirs"]) == 0
    assert capsys.readouterr().out.endswith("\n13 passed, 0 failed, 0 skipped\n")
    install(SOUND.replace('"aten.polar"', '"aten.polaar"'))
    assert main(["plugins", "check", "theirs"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"\nFAILED   tracer rule aten\.polaar: operator +PyTorch knows no operator ", printed)
    assert printed.endswith("\n12 passed, 1 failed, 0 skipped\n")
    assert main(["plugins", "check", "nobody"]) == 2
    assert capsys.readouterr().err.startswith("ninokit: plugin: none is named 'nobody'")
