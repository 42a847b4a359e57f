"""The registry of plugins, and what importing ninokit does and offers."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace

import pytest
from strangers import Entry, family, offering, plugin

import ninokit
from ninokit import plugins
from ninokit.benchmarks.arms.adamw import ADAMW
from ninokit.benchmarks.tasks.digits import DIGITS_MLP
from ninokit.encoding import Architecture
from ninokit.errors import PluginError
from ninokit.nowcasters import LineFit
from ninokit.plugins import Registry, Status
from ninokit.plugins.discovery import LOAD, STRICT
from ninokit.training.events import NowcastEvent

EVENT = NowcastEvent(step=10, horizon=3, accepted=True, reason="", seconds=0.1)


@pytest.fixture
def discover(monkeypatch, caplog):
    """Discover a registry from these entry points alone."""
    monkeypatch.delenv(STRICT, raising=False)
    monkeypatch.delenv(LOAD, raising=False)
    caplog.set_level(logging.WARNING, logger="ninokit")

    def run(*entries: object) -> Registry:
        def entry_points(*, group: str) -> list[object]:
            assert group == "ninokit"
            return list(entries)

        monkeypatch.setattr(metadata, "entry_points", entry_points)
        return Registry.discover()

    return run


def installed() -> list[metadata.EntryPoint]:
    return list(metadata.entry_points(group="ninokit"))


def test_built_in_plugins_come_through_the_public_door(discover, caplog):
    found = discover(*installed())
    assert {"mlp", "cnn"} <= set(found.architectures())
    assert {"linefit", "wnn", "nino"} <= set(found.nowcasters())
    assert found.tasks()
    assert list(found.arms()) == ["adamw", "adamw_linear", "schedule_free", "muon", "snoo"]
    assert not caplog.messages
    builtin = {entry.name for entry in installed() if entry.dist.name == "ninokit"}
    assert {"mlp", "cnn", "nowcasters", "tasks", "arms"} <= builtin


def test_built_in_plugins_are_faultless_in_a_strict_registry(discover, monkeypatch):
    entries = installed()
    monkeypatch.setenv("NINOKIT_STRICT_PLUGINS", "1")
    found = discover(*entries)
    assert found.architectures()
    assert found.nowcasters()
    assert found.tasks()
    assert found.arms()


@pytest.mark.parametrize("order", [1, -1])
def test_third_party_families_are_asked_first(discover, order):
    strangers = [Entry("zzz", offering("theirs")), Entry("aaa", offering("others"), "another")]
    found = discover(*(strangers + [e for e in installed() if e.name in {"mlp", "cnn"}])[::order])
    names = list(found.architectures())
    assert set(names[:2]) == {"theirs", "others"}
    assert set(names[2:]) == {"mlp", "cnn"}


def test_order_does_not_depend_on_the_order_of_installation(discover):
    entries = [Entry(name, offering(name)) for name in "bca"] + [Entry("mlp", offering("mlp"), "ninokit")]
    assert list(discover(*entries).architectures()) == list(discover(*entries[::-1]).architectures())


def test_third_party_may_replace_a_built_in_name(discover, caplog):
    theirs = offering("mlp")
    found = discover(*installed(), Entry("theirs", theirs, "stranger", "3.1"))
    assert found.architectures()["mlp"].description == "family mlp"
    version = metadata.version("ninokit")
    assert caplog.messages == [
        f"left out: ninokit_architectures of ninokit {version}: 'mlp' is offered already by stranger 3.1, which is kept"
    ]


def test_hooks_are_called_once(discover):
    calls = []

    def architectures() -> list[Architecture]:
        calls.append(1)
        return [family("theirs")]

    found = discover(Entry("theirs", plugin(ninokit_architectures=architectures)))
    assert not calls
    first, second = found.architectures(), found.architectures()
    assert first["theirs"] is second["theirs"]
    assert len(calls) == 1


def fails() -> None:
    raise ValueError("out of order")


def unknown_argument(model: object) -> list[Architecture]:
    return []


class Panic(BaseException):
    """As an extension in Rust raises it."""


class SpeechlessError(Exception):
    """An error that can't be printed."""

    def __str__(self) -> str:
        raise ValueError


HOOKS = [
    "ninokit_architectures",
    "ninokit_arms",
    "ninokit_nowcasters",
    "ninokit_on_nowcast",
    "ninokit_tasks",
    "ninokit_tracer_rules",
    "ninokit_zoo",
]

FAULTS = {
    "import": (
        ModuleNotFoundError("No module named 'flax'"),
        "plugin 'theirs' of stranger 1.2: ModuleNotFoundError: No module named 'flax'",
    ),
    "hook": (
        plugin(ninokit_architectures=fails),
        "ninokit_architectures of stranger 1.2: ValueError: out of order",
    ),
    "signature": (
        plugin(ninokit_architectures=unknown_argument),
        re.compile(
            r"plugin 'theirs' of stranger 1\.2: pluggy.*PluginValidationError: .*ninokit_architectures.*\{'model'\}.*",
            re.DOTALL,
        ),
    ),
    "unknown hook": (
        plugin(ninokit_architecture=fails),
        "plugin 'theirs' of stranger 1.2: there is no hook 'ninokit_architecture'; did you mean "
        "'ninokit_architectures'?",
    ),
    "no decorator": (
        SimpleNamespace(ninokit_architectures=lambda: []),
        "plugin 'theirs' of stranger 1.2: ninokit_architectures lacks the decorator @ninokit.hookimpl; add it, "
        "or rename the function",
    ),
    "no hook": (
        SimpleNamespace(encode=lambda: []),
        f"plugin 'theirs' of stranger 1.2: it implements no hook; there are {HOOKS}",
    ),
    "API of tomorrow": (
        SimpleNamespace(ninokit_api=2, **vars(offering("theirs"))),
        "plugin 'theirs' of stranger 1.2: it was written for version 2 of the plugin API (ninokit_api), this ninokit "
        "has version 1; install a newer ninokit",
    ),
    "API of yesterday": (
        SimpleNamespace(ninokit_api=0, ninokit_architecture=ninokit.hookimpl(fails)),
        "plugin 'theirs' of stranger 1.2: it was written for version 0 of the plugin API (ninokit_api), this ninokit "
        "has version 1; install a newer version of the plugin",
    ),
    "exit": (SystemExit(3), "plugin 'theirs' of stranger 1.2: SystemExit: 3"),
    "panic": (Panic("in Rust"), re.compile(r"plugin 'theirs' of stranger 1\.2: \S*Panic: in Rust")),
    "words fail": (
        SpeechlessError(),
        re.compile(r"plugin 'theirs' of stranger 1\.2: \S*Speech.*: <.*str\(\) failed>"),
    ),
    "syntax": (
        SyntaxError("invalid syntax", ("theirs.py", 3, 5, "def :\n")),
        re.compile(r"plugin 'theirs' of stranger 1\.2: File \"theirs\.py\", line 3\n.*invalid syntax", re.DOTALL),
    ),
}


def matches(message: str, expected: str | re.Pattern[str]) -> bool:
    return message == expected if isinstance(expected, str) else bool(expected.fullmatch(message))


@pytest.mark.parametrize("name", FAULTS)
def test_broken_plugin_is_left_out_with_one_warning(discover, caplog, name):
    content, expected = FAULTS[name]
    found = discover(Entry("theirs", content), Entry("good", offering("good"), "kind"), *installed())
    assert {"good", "mlp", "cnn"} <= set(found.architectures())
    (message,) = caplog.messages
    assert message.startswith("left out: ")
    assert matches(message.removeprefix("left out: "), expected)
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("error", [SystemExit(1), Panic("in Rust"), ValueError("out of order")])
def test_hook_that_breaks_out_is_left_out(discover, caplog, error):
    def breaks_out() -> None:
        raise error

    sound = {"ninokit_tasks": lambda: [DIGITS_MLP]}
    found = discover(
        Entry("theirs", plugin(ninokit_architectures=breaks_out, **sound)), Entry("good", offering("good"))
    )
    assert list(found.architectures()) == ["good"]
    assert list(found.tasks()) == ["digits_mlp"]
    (message,) = caplog.messages
    assert message.startswith("left out: ninokit_architectures of stranger 1.2: ")
    assert message.endswith(f"{type(error).__name__}: {error}")


def test_the_user_may_interrupt_a_plugin(discover):
    with pytest.raises(KeyboardInterrupt):
        discover(Entry("theirs", KeyboardInterrupt()))

    def interrupted() -> None:
        raise KeyboardInterrupt

    found = discover(Entry("theirs", plugin(ninokit_architectures=interrupted)))
    with pytest.raises(KeyboardInterrupt):
        found.architectures()


def test_plugin_of_this_api_is_loaded(discover, caplog):
    found = discover(Entry("theirs", SimpleNamespace(ninokit_api=1, **vars(offering("theirs")))))
    assert list(found.architectures()) == ["theirs"]
    assert not caplog.messages


@pytest.mark.parametrize("name", ["", None, 3])
def test_names_are_strings(discover, caplog, name):
    found = discover(Entry("theirs", plugin(ninokit_nowcasters=lambda: {name: LineFit})))
    assert found.nowcasters() == {}
    assert caplog.messages == [
        "left out: ninokit_nowcasters of stranger 1.2: expected names that are strings and not empty, got " + repr(name)
    ]


def test_what_became_of_each_plugin(discover, monkeypatch):
    monkeypatch.setenv("NINOKIT_LOAD_PLUGINS", "sound,clash,late,gone")
    found = discover(
        Entry("sound", offering("first", "second")),
        Entry("clash", plugin(ninokit_architectures=offering("first").ninokit_architectures, ninokit_tasks=fails)),
        Entry("late", ImportError("no module"), "tardy", "0.1"),
        Entry("gone", SimpleNamespace(ninokit_api=7), "newer", "9"),
        Entry("other", ImportError("not imported")),
    )
    records = {plugin.name: plugin for plugin in found.plugins()}
    assert list(records) == ["sound", "other", "late", "gone", "clash"]
    assert [plugin.status for plugin in records.values()] == [
        *(Status.LOADED, Status.NOT_CHOSEN, Status.LEFT_OUT, Status.LEFT_OUT, Status.LOADED)
    ]
    assert records["sound"].hooks == ["ninokit_architectures"]
    assert sorted(records["clash"].hooks) == ["ninokit_architectures", "ninokit_tasks"]
    assert all(plugin.offers == {} for plugin in records.values())
    found.architectures()
    found.tasks()
    assert records["sound"].offers == {"ninokit_architectures": ["first", "second"]}
    assert records["clash"].offers == {"ninokit_architectures": [], "ninokit_tasks": []}
    assert records["clash"].faults == [
        "ninokit_architectures: 'first' is offered already by stranger 1.2, which is kept",
        "ninokit_tasks: ValueError: out of order",
    ]
    assert records["late"].faults == ["ImportError: no module"]
    assert records["gone"].faults[0].startswith("it was written for version 7")
    assert records["other"].faults == []
    late = records["late"]
    assert (late.distribution, late.version, late.entry_point, late.file) == ("tardy", "0.1", "late_module", "")


def test_where_the_code_of_a_plugin_lies(discover):
    files = {plugin.name: plugin.file for plugin in discover(*installed()).plugins()}
    assert files["tracer"] == ninokit.builtin.tracer.__file__


@pytest.mark.parametrize("broken", [{"ninokit_architecture": fails}, {"ninokit_tasks": unknown_argument}])
def test_half_broken_plugin_is_left_out_as_a_whole(discover, caplog, broken):
    sound = {"ninokit_architectures": lambda: [family("theirs")], "ninokit_on_nowcast": fails}
    found = discover(Entry("theirs", plugin(**sound, **broken)), Entry("good", offering("good"), "kind"))
    assert list(found.architectures()) == ["good"]
    assert found.tasks() == {}
    found.notify(EVENT)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_which_of_two_entry_points_is_kept_does_not_depend_on_the_order_of_installation(discover, order):
    entries = [Entry("same", offering("one"), "one"), Entry("same", offering("two"), "two")]
    assert list(discover(*entries[::order]).architectures()) == ["one"]


@pytest.mark.parametrize("name", FAULTS)
def test_strict_registry_raises(discover, monkeypatch, name):
    content, expected = FAULTS[name]
    monkeypatch.setenv("NINOKIT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError) as caught:
        discover(Entry("theirs", content)).architectures()
    assert matches(str(caught.value), expected)
    assert caught.value.__cause__ is not None


def test_strict_registry_raises_for_a_name_of_two(discover, monkeypatch):
    monkeypatch.setenv("NINOKIT_STRICT_PLUGINS", "1")
    found = discover(Entry("a", offering("same"), "first"), Entry("b", offering("same"), "second"))
    message = "ninokit_architectures of first 1.2: 'same' is offered already by second 1.2, which is kept"
    with pytest.raises(PluginError, match=f"^{re.escape(message)}$"):
        found.architectures()


@pytest.mark.parametrize("value", ["0", "", "no"])
def test_only_one_means_strict(discover, monkeypatch, value):
    monkeypatch.setenv("NINOKIT_STRICT_PLUGINS", value)
    assert discover(Entry("theirs", ImportError("gone"))).architectures() == {}


def test_two_nowcasters_of_one_name(discover, caplog):
    first, second = type("First", (LineFit,), {}), type("Second", (LineFit,), {})
    found = discover(
        Entry("a", plugin(ninokit_nowcasters=lambda: {"same": first, "own": first}), "one"),
        Entry("b", plugin(ninokit_nowcasters=lambda: {"same": second}), "two"),
    )
    assert found.nowcasters() == {"same": second, "own": first}
    assert caplog.messages == [
        "left out: ninokit_nowcasters of one 1.2: 'same' is offered already by two 1.2, which is kept"
    ]


def test_two_tasks_of_one_name(discover, caplog):
    first, second = (replace(DIGITS_MLP, name="same") for _ in range(2))
    found = discover(
        Entry("a", plugin(ninokit_tasks=lambda: [first]), "one"),
        Entry("b", plugin(ninokit_tasks=lambda: [second]), "two"),
    )
    assert found.tasks()["same"] is second
    assert caplog.messages == [
        "left out: ninokit_tasks of one 1.2: 'same' is offered already by two 1.2, which is kept"
    ]


def test_two_arms_of_one_name(discover, caplog):
    first, second = (replace(ADAMW, name="same") for _ in range(2))
    found = discover(
        Entry("a", plugin(ninokit_arms=lambda: [first, ADAMW]), "one"),
        Entry("b", plugin(ninokit_arms=lambda: [second]), "two"),
    )
    assert found.arms() == {"same": second, "adamw": ADAMW}
    assert caplog.messages == ["left out: ninokit_arms of one 1.2: 'same' is offered already by two 1.2, which is kept"]


@pytest.mark.parametrize("offer", [DIGITS_MLP, "adamw", type(ADAMW)])
def test_what_is_no_arm(discover, caplog, offer):
    found = discover(Entry("theirs", plugin(ninokit_arms=lambda: [ADAMW, offer])))
    assert found.arms() == {}
    assert caplog.messages == [f"left out: ninokit_arms of stranger 1.2: expected Arm objects, got {offer!r}"]


def test_all_that_is_offered_is_asked_for(discover):
    found = discover(Entry("theirs", plugin(ninokit_arms=lambda: [ADAMW], ninokit_tasks=lambda: [DIGITS_MLP])))
    found.collect()
    assert found.plugins()[0].offers == {"ninokit_arms": ["adamw"], "ninokit_tasks": ["digits_mlp"]}


def test_two_entry_points_of_one_name(discover, caplog):
    found = discover(Entry("same", offering("one"), "one"), Entry("same", offering("two"), "two"))
    assert list(found.architectures()) == ["one"]
    (message,) = caplog.messages
    assert message == "left out: plugin 'same' of two 1.2: it, or another of its name, is registered already"


def test_two_entry_points_of_one_module(discover, caplog):
    shared = offering("shared")
    found = discover(Entry("a", shared), Entry("b", shared))
    assert list(found.architectures()) == ["shared"]
    assert len(caplog.messages) == 1


def test_broken_hook_is_warned_of_once(discover, caplog):
    found = discover(Entry("theirs", plugin(ninokit_architectures=fails)))
    found.architectures()
    found.architectures()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("offer", [None, [SimpleNamespace()], family("lone")])
def test_hook_that_returns_something_else_is_left_out(discover, caplog, offer):
    found = discover(Entry("theirs", plugin(ninokit_architectures=lambda: offer)), Entry("good", offering("good")))
    assert list(found.architectures()) == ["good"]
    (message,) = caplog.messages
    assert message.startswith("left out: ninokit_architectures of stranger 1.2: ")


def test_entry_point_without_distribution(discover, caplog):
    discover(Entry("odd", ImportError("gone"), None))
    assert caplog.messages == ["left out: plugin 'odd' of unknown ?: ImportError: gone"]


@pytest.mark.parametrize(
    ("value", "loaded"),
    [("a", {"a"}), ("a,c", {"a", "c"}), (" a , b ", {"a", "b"}), ("", set()), (" , ", set()), ("a,b,c", set("abc"))],
)
def test_chosen_plugins_are_loaded_alone(discover, monkeypatch, caplog, value, loaded):
    monkeypatch.setenv("NINOKIT_LOAD_PLUGINS", value)
    found = discover(*(Entry(name, offering(name)) for name in "abc"))
    assert set(found.architectures()) == loaded
    assert not caplog.messages


def test_plugins_that_are_not_chosen_are_not_imported(discover, monkeypatch, caplog):
    monkeypatch.setenv("NINOKIT_LOAD_PLUGINS", "good")
    assert list(discover(Entry("bad", ImportError("gone")), Entry("good", offering("good"))).architectures()) == [
        "good"
    ]
    assert not caplog.messages


def test_chosen_plugin_that_does_not_exist(discover, monkeypatch, caplog):
    monkeypatch.setenv("NINOKIT_LOAD_PLUGINS", "a,nothing")
    assert set(discover(Entry("a", offering("a"))).architectures()) == {"a"}
    assert caplog.messages == ["NINOKIT_LOAD_PLUGINS names ['nothing'], which no installed distribution announces"]


def test_registering_by_hand():
    found = Registry(strict=True)
    assert found.architectures() == {}
    found.register(offering("first"), "one")
    found.register(offering("second"), "two")
    assert list(found.architectures()) == ["second", "first"]
    message = "^plugin 'one', registered by hand: it, or another of its name, is registered already$"
    with pytest.raises(PluginError, match=message):
        found.register(offering("third"), "one")
    assert list(found.architectures()) == ["second", "first"]


def test_observers_are_told(discover):
    seen = []

    def observer(event: NowcastEvent) -> None:
        seen.append(event)

    found = discover(
        Entry("a", plugin(ninokit_on_nowcast=observer)),
        Entry("b", plugin(ninokit_on_nowcast=lambda: seen.append("without argument"))),
    )
    found.notify(EVENT)
    assert seen == ["without argument", EVENT]
    assert seen[1] is EVENT


def test_failing_observer_stops_neither_training_nor_the_others(discover, caplog):
    seen = []

    def observer(event: NowcastEvent) -> None:
        seen.append(event)

    def broken(event: NowcastEvent) -> None:
        raise RuntimeError("dashboard is down")

    found = discover(
        Entry("a", plugin(ninokit_on_nowcast=observer), "one"),
        Entry("b", plugin(ninokit_on_nowcast=broken), "two", "0.9"),
    )
    found.notify(EVENT)
    assert seen == [EVENT]
    assert caplog.messages == ["left out: ninokit_on_nowcast of two 0.9: RuntimeError: dashboard is down"]


def test_observer_that_always_fails_is_warned_of_once_and_told_again(discover, caplog):
    told = []

    def broken(event: NowcastEvent) -> None:
        told.append(event.step)
        raise RuntimeError(f"dashboard is down at step {event.step}")

    found = discover(Entry("theirs", plugin(ninokit_on_nowcast=broken)))
    for step in (1, 2, 3):
        found.notify(replace(EVENT, step=step))
    assert told == [1, 2, 3]
    assert caplog.messages == [
        "left out: ninokit_on_nowcast of stranger 1.2: RuntimeError: dashboard is down at step 1"
    ]


def test_distribution_whose_metadata_are_damaged(discover, caplog):
    class Damaged:
        @property
        def name(self) -> str:
            raise KeyError("Name")

    entry = Entry("odd", ImportError("gone"))
    entry.dist = Damaged()
    discover(entry, Entry("nameless", ImportError("gone"), "", ""), Entry("good", offering("good")))
    assert sorted(caplog.messages) == [
        "left out: plugin 'nameless' of unknown ?: ImportError: gone",
        "left out: plugin 'odd' of unknown ?: ImportError: gone",
    ]


def test_one_registry_a_process():
    assert plugins.registry() is plugins.registry()
    assert {"mlp", "cnn"} <= set(ninokit.architectures())


def test_exported_names():
    assert ninokit.__all__ == [
        "Architecture",
        "NeuralGraph",
        "NinokitError",
        "NowcastEvent",
        "Nowcasting",
        "architectures",
        "attach",
        "encode",
        "hookimpl",
    ]
    assert all(hasattr(ninokit, name) for name in ninokit.__all__)


def run_python(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    return finished.stdout.strip()


def test_plugins_are_imported_without_pytorch():
    found = run_python(
        "import sys, ninokit.plugins; ninokit.plugins.registry()\n"
        "print('ninokit_timm' in sys.modules, 'ninokit.builtin.tracer' in sys.modules, 'torch' in sys.modules)"
    )
    assert found == "True True False"


def test_import_is_light():
    """Encoding a network needs none of the optional libraries either."""
    heavy = ["dgl", "timm", "transformers", "torchvision", "matplotlib", "scipy", "pandas", "sklearn", "mnist1d"]
    found = run_python(
        f"import sys, ninokit; first = [m for m in {heavy} if m in sys.modules]\n"
        "plugins = [m for m in sys.modules if m.startswith(('ninokit_mlp', 'ninokit.builtin'))]\n"
        "import torch; ninokit.encode(torch.nn.Linear(3, 2)).positions\n"
        f"print(first, plugins, [m for m in {heavy} if m in sys.modules])"
    )
    assert found == "[] [] []"
