"""Settings from a file and the command line, and the exact words in which wrong ones are refused."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ninokit.configuration import CompareConfig, load_config
from ninokit.errors import ConfigError

KNOWN = (
    "task, seeds, nowcaster, nowcaster_sha256, data_root, out, total_steps, period, recalibrate_batchnorm, "
    "lr, eval_every, target, stop_at_target, device, threads"
)


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
        ("target=1", "target", 1.0),
        ("target=1.85", "target", 1.85),
        ("stop_at_target=true", "stop_at_target", True),
        ("out=a=b", "out", "a=b"),
        ("data_root=/data with space", "data_root", "/data with space"),
        ("period=null", "period", None),
        ("data_root=null", "data_root", None),
        ("out='a b'", "out", "a b"),
        *(
            ("out=" + folder, "out", folder)
            for folder in ("2025-06-01", "2025-13-01", "0123", "1.10", "12:30:00", "on")
        ),
        ("nowcaster_sha256=" + "aB" * 32, "nowcaster_sha256", "aB" * 32),
    ],
)
def test_values(override, key, value):
    found = getattr(load_config(CompareConfig, None, [override]), key)
    assert found == value
    assert type(found) is type(value)


COUNT = "a whole number, at least 1"
SEEDS = "a list of distinct whole numbers from 0, such as [0,1,2]"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stop_at_target=1", "stop_at_target must be true or false; got 1"),
        ("period=true", "period must be a whole number, at least 1; got True"),
        ("period=0", f"period must be {COUNT}; got 0"),
        ("recalibrate_batchnorm=-1", "recalibrate_batchnorm must be a whole number, at least 0; got -1"),
        ("period=1.5", f"period must be {COUNT}; got 1.5"),
        ("period=fast", f"period must be {COUNT}; got 'fast'"),
        ("total_steps=-1", f"total_steps must be {COUNT}; got -1"),
        ("eval_every=[1]", f"eval_every must be {COUNT}; got [1]"),
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
        ("target=0", "target must be a number above 0; got 0"),
        ("target=.inf", "target must be a number above 0; got inf"),
        ("task=", "task must be the name of a task, see `ninokit tasks`; got None"),
        ("out=", "out must be a folder; got None"),
        ("out=''", "out must be a folder; got ''"),
        ("device=tpu", "device must be cpu, cuda or cuda:N; got 'tpu'"),
        ("nowcaster_sha256=abc", "nowcaster_sha256 must be 64 hexadecimal digits; got 'abc'"),
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
