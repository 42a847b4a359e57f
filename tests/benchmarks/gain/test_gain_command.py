"""`ninokit gain` on a registered task, with and without processes, and what the documentation shows."""

from dataclasses import replace

import pytest

from ninokit.benchmarks.gain import GainTable
from ninokit.benchmarks.gain.command import default_times, measure_task
from ninokit.benchmarks.gain.settings import GainConfig
from ninokit.benchmarks.gain.table import read_gain
from ninokit.benchmarks.tasks.finding import find_task
from ninokit.configuration import load_config
from ninokit.errors import ConfigError

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")


def settings(tmp_path, *more):
    period = find_task("digits_mlp").period
    few = [f"times=[{period}]", "horizons=[2]", "rates=[1]", "inputs=[states]", "recovery=50", f"out={tmp_path}/out"]
    return load_config(GainConfig, None, [*few, *more])


def test_processes_find_what_one_finds(tmp_path, monkeypatch):
    one = measure_task("digits_mlp", ["linefit"], settings(tmp_path, "threads=1"))
    assert read_gain(tmp_path / "out" / "gain.json") == one
    assert [(row.earlier, row.nowcaster) for row in one.rows] == [
        (False, "no jump"),
        (False, "linefit"),
        (True, "no jump"),
        (True, "linefit"),
    ]
    assert all(row.gained is not None for row in one.rows)

    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "another_cache"))
    two = measure_task("digits_mlp", ["linefit"], settings(tmp_path, "workers=2", "threads=1"))
    assert two == one


def test_without_nowcasters(tmp_path):
    with pytest.raises(ConfigError, match=r"^gain: expected nowcasters after the task, such as linefit; got none$"):
        measure_task("digits_mlp", [], settings(tmp_path))


def test_default_times_are_whole_periods():
    task = replace(find_task("digits_mlp"), total_steps=600, period=50)

    assert default_times(task) == [100, 250, 350, 500]  # of 120, 240, 360, 480
    assert default_times(replace(task, period=300)) == [300, 600]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recovery=10"], "the command line: recovery must be a whole number of steps, at least 50; got 10"),
        (["inputs=[weights]"], r"the command line: inputs must be states, means or both, in a list; got \['weights'\]"),
        (["rates=[]"], r"the command line: rates must be a list of distinct numbers above 0; got \[\]"),
        (["times=[3,3]"], r"the command line: times must be a list of distinct whole numbers from 1; got \[3, 3\]"),
    ],
)
def test_settings_out_of_range(words, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        load_config(GainConfig, None, words)


def test_the_earlier_jumps_can_be_left_out(tmp_path):
    table = measure_task("digits_mlp", ["linefit"], settings(tmp_path, "earlier=null", "threads=1"))

    assert {row.earlier for row in table.rows} == {False}


def test_the_guides_example(code_blocks, capsys):
    (code,) = code_blocks("docs/gain.md")
    scope: dict[str, object] = {}
    exec(code, scope)

    table = scope["table"]
    assert isinstance(table, GainTable)
    assert capsys.readouterr().out.startswith("# products: steps gained by a jump\n")
    assert scope["mean"] == table.mean(rate=1.0, earlier=False, nowcaster="linefit", inputs="states", horizon=2)
    assert scope["mean"].trials == 2
