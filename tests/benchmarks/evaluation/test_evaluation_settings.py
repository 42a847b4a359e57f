"""The settings of an evaluation, and the recipes that ship."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import ninokit.benchmarks.evaluation
from ninokit.benchmarks.compare import find_task
from ninokit.benchmarks.evaluation.settings import EvaluateConfig
from ninokit.configuration import load_config
from ninokit.errors import ConfigError

RECIPES = sorted((Path(ninokit.benchmarks.evaluation.__file__).parent / "recipes").glob("*.yaml"))
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "evaluation.md"


def test_defaults_need_no_files():
    config = load_config(EvaluateConfig, None, [])
    assert config == EvaluateConfig()
    assert config.stop_at_target
    assert not any(find_task(name).needs_data_root for name in config.tasks)
    assert set(config.seeds).isdisjoint(config.tuning_seeds)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks=[]", "tasks must be a list of distinct tasks, see `ninokit tasks`; got []"),
        ("tasks=[a,a]", "tasks must be a list of distinct tasks, see `ninokit tasks`; got ['a', 'a']"),
        ("against=['']", "against must be a list of distinct nowcasters, or []; got ['']"),
        ("lr_factors=[0]", "lr_factors must be a list of distinct numbers above 0, or []; got [0]"),
        ("lr_factors=[2,2]", "lr_factors must be a list of distinct numbers above 0, or []; got [2, 2]"),
        ("tuning_seeds=[]", "tuning_seeds must be a list of distinct whole numbers from 0, such as [0,1,2]; got []"),
        ("max_steps=0", "max_steps must be a whole number, at least 1; got 0"),
        ("write_card=1", "write_card must be true or false; got 1"),
    ],
)
def test_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(EvaluateConfig, None, [override])
    assert str(caught.value) == f"the command line: {message}"


def test_none_to_compare_with_and_no_tuning():
    config = load_config(EvaluateConfig, None, ["against=[]", "lr_factors=[]"])
    assert (config.against, config.lr_factors) == ([], [])


def test_there_are_recipes():
    assert [path.stem for path in RECIPES] == ["held-out", "transformers"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_what_there_is(path):
    config = load_config(EvaluateConfig, path, [])
    tasks = [find_task(name) for name in config.tasks]
    assert len(config.seeds) >= 3
    assert path.stem != "held-out" or all(task.held_out for task in tasks)


def test_the_documentation_names_every_setting():
    text = DOCUMENTATION.read_text(encoding="utf-8")
    assert [field.name for field in fields(EvaluateConfig) if f"`{field.name}`" not in text] == []
