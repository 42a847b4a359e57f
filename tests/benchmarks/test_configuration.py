"""Settings from a file and the command line, and the exact words in which wrong ones are refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from ninokit import zoo
from ninokit.benchmarks import evaluation
from ninokit.benchmarks.evaluation.settings import CompareConfig, EvaluateConfig
from ninokit.configuration import load_config
from ninokit.errors import ConfigError
from ninokit.plugins import registry

KNOWN = "task, arms, seeds, lr, period, total_steps, data_root, out, store, seconds, device, workers, threads"


def test_defaults():
    assert load_config(CompareConfig, None, []) == CompareConfig()
    assert CompareConfig().seeds == [0, 1, 2]


def test_the_known_settings():
    assert ", ".join(field.name for field in fields(CompareConfig)) == KNOWN


def test_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("task: digits_mlp\nlr: 1e-3\nseeds: [5]\nperiod: null\n")
    config = load_config(CompareConfig, file, ["seeds=[7, 8]", "threads=1"])
    assert config == CompareConfig(task="digits_mlp", lr=0.001, seeds=[7, 8], threads=1)
    assert type(config) is CompareConfig
    assert type(config.seeds) is list


def test_an_empty_file_changes_nothing(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("# nothing yet\n")
    assert load_config(CompareConfig, file, []) == CompareConfig()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("period=10", "period", 10),
        ("lr=1e-3", "lr", 0.001),
        ("lr=1", "lr", 1.0),
        ("device=cuda:1", "device", "cuda:1"),
        ("lr=1.85", "lr", 1.85),
        ("seconds=true", "seconds", True),
        ("arms=[muon, muon+linefit]", "arms", ["muon", "muon+linefit"]),
        ("out=a=b", "out", "a=b"),
        ("data_root=/data with space", "data_root", "/data with space"),
        ("period=null", "period", None),
        ("data_root=null", "data_root", None),
        ("out='a b'", "out", "a b"),
        *(
            ("out=" + folder, "out", folder)
            for folder in ("2025-06-01", "2025-13-01", "0123", "1.10", "12:30:00", "on")
        ),
        ("store=2025-06-01", "store", "2025-06-01"),
    ],
)
def test_values(override, key, value):
    found = getattr(load_config(CompareConfig, None, [override]), key)
    assert found == value
    assert type(found) is type(value)


COUNT = "a whole number, at least 1"
ARMS = "a list of distinct arms: registered ones, nowcasters, or ARM+NOWCASTER"
SEEDS = "a list of distinct whole numbers from 0, such as [0,1,2]"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seconds=1", "seconds must be true or false; got 1"),
        ("period=true", "period must be a whole number, at least 1; got True"),
        ("period=0", f"period must be {COUNT}; got 0"),
        ("period=1.5", f"period must be {COUNT}; got 1.5"),
        ("period=fast", f"period must be {COUNT}; got 'fast'"),
        ("total_steps=-1", f"total_steps must be {COUNT}; got -1"),
        ("workers=[1]", f"workers must be {COUNT}; got [1]"),
        ("workers=0", f"workers must be {COUNT}; got 0"),
        ("threads=true", f"threads must be {COUNT}; got True"),
        ("seeds=[]", f"seeds must be {SEEDS}; got []"),
        ("seeds=3", f"seeds must be {SEEDS}; got 3"),
        ("seeds=[1,1]", f"seeds must be {SEEDS}; got [1, 1]"),
        ("seeds=[-1]", f"seeds must be {SEEDS}; got [-1]"),
        ("seeds=[0,1.5]", f"seeds must be {SEEDS}; got [0, 1.5]"),
        ("seeds=null", f"seeds must be {SEEDS}; got None"),
        ("lr=0", "lr must be a number above 0; got 0"),
        ("lr=.nan", "lr must be a number above 0; got nan"),
        ("lr=.inf", "lr must be a number above 0; got inf"),
        ("arms=[]", f"arms must be {ARMS}; got []"),
        ("arms=[muon,muon]", f"arms must be {ARMS}; got ['muon', 'muon']"),
        ("arms=['']", f"arms must be {ARMS}; got ['']"),
        ("task=", "task must be the name of a task, see `ninokit tasks`; got None"),
        ("out=", "out must be a folder; got None"),
        ("out=''", "out must be a folder; got ''"),
        ("device=tpu", "device must be cpu, cuda or cuda:N; got 'tpu'"),
        ("store=''", "store must be a folder; got ''"),
        ("out=${absent}", "out must be a folder; got '${absent}'"),
        ("seed=3", f"unknown setting 'seed'. Did you mean 'seeds'? Known settings: {KNOWN}"),
        ("zzz=3", f"unknown setting 'zzz'. Known settings: {KNOWN}"),
        ("seeds", "expected key=value, such as seeds=[0,1,2]; got 'seeds'"),
        ("=3", "expected key=value, such as seeds=[0,1,2]; got '=3'"),
        ("seeds=[0,", "the value in 'seeds=[0,' is not valid YAML; quote or close it"),
    ],
)
def test_refused_on_the_command_line(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(CompareConfig, None, [override])
    assert str(caught.value) == f"the command line: {message}"


FACTORS = "a list of distinct numbers above 0, such as [0.5,1,2]"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks=[]", "tasks must be a list of distinct tasks, see `ninokit tasks`; got []"),
        ("tasks=[a,a]", "tasks must be a list of distinct tasks, see `ninokit tasks`; got ['a', 'a']"),
        ("lr_factors=[]", f"lr_factors must be {FACTORS}; got []"),
        ("lr_factors=[0,1]", f"lr_factors must be {FACTORS}; got [0, 1]"),
        ("lr_factors=[1,.inf]", f"lr_factors must be {FACTORS}; got [1, inf]"),
        ("lr_factors=[1,1.0]", f"lr_factors must be {FACTORS}; got [1, 1.0]"),
        ("tuning_seeds=[]", f"tuning_seeds must be {SEEDS}; got []"),
        ("arms=[muon,muon]", f"arms must be {ARMS}; got ['muon', 'muon']"),
    ],
)
def test_refused_of_an_evaluation(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(EvaluateConfig, None, [override])
    assert str(caught.value) == f"the command line: {message}"


def test_an_evaluation_is_tuned_alike_on_seeds_of_its_own():
    config = load_config(EvaluateConfig, None, ["seeds=[0,1]"])
    assert config == EvaluateConfig(seeds=[0, 1])
    assert config.lr_factors == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert not set(EvaluateConfig().seeds) & set(config.tuning_seeds)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("period: 0", f": period must be {COUNT}; got 0"),
        ("tasks: x", f": unknown setting 'tasks'. Did you mean 'task'? Known settings: {KNOWN}"),
        ("3: x", f": unknown setting '3'. Known settings: {KNOWN}"),
        ("- a", ": expected lines such as `task: mnist1d_mlp`; got a list"),
    ],
)
def test_refused_in_a_file(tmp_path, content, message):
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(CompareConfig, file, ["period=5"] if content.startswith("-") else [])
    assert str(caught.value) == f"configuration file {file}{message}"


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(CompareConfig, tmp_path / "absent.yaml", [])
    assert str(caught.value) == (
        f"configuration file {tmp_path / 'absent.yaml'}: cannot be read: No such file or directory. Correct --config"
    )


@pytest.mark.parametrize("content", [b"a: [", b"a: 1\na: 2", b"\xff\xfe\x00a", b"just words"])
def test_a_file_that_is_not_settings(tmp_path, content):
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^configuration file .*settings\.yaml: "):
        load_config(CompareConfig, file, [])


@pytest.mark.parametrize(
    "recipe", sorted(Path(evaluation.__file__).parent.glob("recipes/*.yaml")), ids=lambda p: p.name
)
def test_recipes_name_what_there_is(recipe):
    config = load_config(EvaluateConfig, recipe, [])
    assert set(config.tasks) <= set(registry().tasks())
    known = {*registry().arms(), *registry().nowcasters(), *zoo.list()}
    assert {part for arm in config.arms for part in arm.split("+")} <= known
    assert not set(config.seeds) & set(config.tuning_seeds)
