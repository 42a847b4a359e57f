"""The recipes name what there is to collect, and the documentation names every setting."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import ninokit.pretraining
from ninokit.configuration import load_config
from ninokit.pretraining.collect_config import CollectConfig
from ninokit.pretraining.collection_plan import collectable_task
from ninokit.pretraining.pretrain_config import PretrainConfig

FOLDER = Path(ninokit.pretraining.__file__).parent / "recipes"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("collect-*.yaml"))}
MEANT_FOR = {
    "collect-full": ["pretrain-nino-full", "pretrain-wnn-full"],
    "collect-small": ["pretrain-nino-small", "pretrain-wnn-small"],
    "collect-long": ["pretrain-nino-long", "pretrain-nino-without-transformers", "pretrain-wnn-long"],
    "collect-wide": ["pretrain-nino-wide"],
}
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "trajectories.md"


def test_there_are_recipes():
    assert list(RECIPES) == ["collect-full", "collect-long", "collect-small", "collect-wide"]
    used = {name for names in MEANT_FOR.values() for name in names}
    assert {path.stem for path in FOLDER.glob("pretrain-*.yaml")} == used


@pytest.mark.parametrize("path", RECIPES.values(), ids=RECIPES)
def test_a_recipe_collects_nothing_that_is_kept_for_judging(path):
    config = load_config(CollectConfig, path, [])
    assert not config.held_out
    for name in config.tasks:
        collectable_task(name, config)


@pytest.mark.parametrize("name", ["collect-full", "collect-small"])
def test_a_recipe_collects_every_kind_of_network(name):
    tasks = load_config(CollectConfig, RECIPES[name], []).tasks
    kinds = {"mlp", "cnn", "batchnorm_cnn", "depthwise_cnn", "resnet", "vit", "gpt2_narrow"}
    assert kinds <= {task.partition("_")[2] for task in tasks}
    assert {task.partition("_")[0] for task in tasks} >= {"fashion", "shakespeare"}


def test_the_small_recipe_collects_small_data_too():
    tasks = load_config(CollectConfig, RECIPES["collect-small"], []).tasks
    assert {task.partition("_")[0] for task in tasks} >= {"mnist1d", "digits"}


@pytest.mark.parametrize("name", ["collect-long", "collect-small", "collect-wide"])
def test_what_two_cores_collect_are_small_networks(name):
    config = load_config(CollectConfig, RECIPES[name], [])
    for task in config.tasks:
        model = collectable_task(task, config).build_model()
        assert sum(parameter.numel() for parameter in model.parameters()) <= 20_000


def test_no_recipe_writes_over_anothers_nowcaster():
    configs = [load_config(PretrainConfig, path, []) for path in FOLDER.glob("pretrain-*.yaml")]
    assert len({config.out for config in configs}) == len({config.entry_name for config in configs}) == len(configs)


def test_every_setting_is_documented():
    text = DOCUMENTATION.read_text(encoding="utf-8")
    assert [field.name for field in fields(CollectConfig) if f"`{field.name}" not in text] == []


@pytest.mark.parametrize(
    ("collected", "learns"), [(collected, name) for collected, names in MEANT_FOR.items() for name in names]
)
def test_the_nowcasters_learn_from_what_is_collected(collected, learns):
    collection = load_config(CollectConfig, RECIPES[collected], [])
    config = load_config(PretrainConfig, FOLDER / f"{learns}.yaml", [])
    assert config.family == learns.split("-")[1]
    assert config.trajectories == collection.out
    assert set(config.validation_tasks) < set(collection.tasks)
    if collection.every is not None:
        assert collection.every <= config.spacing[0]
