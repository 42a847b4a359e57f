"""The example script, on a small folder of generated images."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest
import torch

pytest.importorskip("timm")
image_module = pytest.importorskip("PIL.Image")

SCRIPT = Path(__file__).parents[2] / "examples" / "timm_training.py"
# timm's data sets leave the files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("timm_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """Dark and bright noise: 20 images of each to train on, 6 to validate on."""
    root = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 20), ("validation", 6)):
        for name, darkest in (("dark", 0), ("bright", 150)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(darkest, darkest + 100, (32, 32, 3), generator=generator, dtype=torch.uint8)
                image_module.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return root


@pytest.fixture
def train(script, data_root, caplog):
    """Run the script; returns its scores and the steps at which nowcasts were accepted."""
    caplog.set_level(logging.INFO, logger="ninokit.training.nowcasting")

    def run(*arguments: str):
        caplog.clear()
        settings = f"--data-root {data_root} --num-classes 2 --batch-size 8 --workers 0 --epochs 4 --img-size 32 "
        settings += "--model test_resnet --lr 0.002 --ema-decay 0.5 --device cpu --period 5"
        scores = script.main([*settings.split(), *arguments])
        nowcasts = [r.args[0] for r in caplog.records if r.msg.startswith("step %d: nowcast of horizon")]
        return scores, nowcasts

    return run


def test_it_learns_and_nowcasts(train):
    scores, nowcasts = train("--nowcaster", "linefit", "--recalibrate-batchnorm", "2")
    assert nowcasts == [5, 10, 15]
    assert len(scores) == 4
    assert scores[-1].accuracy == 1.0


def test_without_a_nowcaster_it_is_the_plain_training(train):
    plain, none = train("--nowcaster", "none")
    far, still_none = train("--nowcaster", "linefit", "--period", "1000")
    assert none == still_none == []
    assert plain == far
    jumped, nowcasts = train("--nowcaster", "linefit", "--period", "6")
    assert nowcasts == [6, 12]
    assert jumped[0] == plain[0]  # before the first jump
    assert jumped[1:] != plain[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        "--model test_vit3 --in-chans 1 --layer-decay 0.7 --cutmix 1.0",
        "--opt lookahead_lamb --schedule step --warmup-epochs 1",
    ],
)
def test_other_settings(train, arguments):
    scores, nowcasts = train(*arguments.split(), "--max-steps", "12", "--nowcaster", "linefit")
    assert nowcasts == [5]
    assert len(scores) == 3  # the last epoch ends early
    assert all(score.loss < 2 for score in scores)
