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

RECIPES = sorted((Path(ninokit.pretraining.__file__).parent / "recipes").glob("collect-*.yaml"))
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "trajectories.md"


def test_there_are_recipes():
    assert [path.stem for path in RECIPES] == ["collect-full", "collect-small"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_collects_every_kind_of_network_and_nothing_that_is_kept_for_judging(path):
    config = load_config(CollectConfig, path, [])
    tasks = [collectable_task(name, config) for name in config.tasks]
    assert not config.held_out
    kinds = {"mlp", "cnn", "batchnorm_cnn", "depthwise_cnn", "resnet", "vit", "gpt2_narrow"}
    assert kinds <= {task.name.partition("_")[2] for task in tasks}
    assert {task.name.partition("_")[0] for task in tasks} >= {"mnist1d", "digits", "fashion", "shakespeare"}


def test_the_small_recipe_takes_small_networks_alone():
    (small,) = (path for path in RECIPES if path.stem == "collect-small")
    config = load_config(CollectConfig, small, [])
    for name in config.tasks:
        model = collectable_task(name, config).build_model()
        assert sum(parameter.numel() for parameter in model.parameters()) <= 20_000


def test_every_setting_is_documented():
    text = DOCUMENTATION.read_text(encoding="utf-8")
    assert [field.name for field in fields(CollectConfig) if f"`{field.name}" not in text] == []


@pytest.mark.parametrize("family", ["nino", "wnn"])
def test_the_small_nowcasters_learn_from_the_small_collection(family):
    folder = RECIPES[0].parent
    collection = load_config(CollectConfig, folder / "collect-small.yaml", [])
    config = load_config(PretrainConfig, folder / f"pretrain-{family}-small.yaml", [])
    assert config.family == family
    assert config.trajectories == collection.out
    assert set(config.validation_tasks) < set(collection.tasks)
