"""The zoo's page: what it says, and that it says what the cards say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hand_made_cards import make_card, make_measurement, make_saving

from ninokit.builtin.zoo import ninokit_zoo
from ninokit.zoo import Run, SavedSteps, TrainingRun, TrainingTask, WeightsFile
from ninokit.zoo.card import read_card
from ninokit.zoo.page import render_card, render_page, short_savings

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def test_the_page_of_the_documentation_is_up_to_date():
    cards = [read_card(folder / "card.yaml") for folder in ninokit_zoo()]
    assert PAGE.read_text(encoding="utf-8") == render_page(cards), "run: python -m ninokit.zoo.page docs/zoo.md"


def test_the_command_that_writes_it(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "ninokit.zoo.page", tmp_path / "zoo.md"]
    subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "zoo.md").read_bytes() == PAGE.read_bytes()


def test_a_card():
    card = make_card(
        training=TrainingRun(
            command="ninokit pretrain",
            recipe="zoo/r.yaml",
            commit="abcdef0" + "1" * 33 + "-dirty",
            hardware="CPU",
            seconds=61.7,
        ),
        trained_on=[TrainingTask(task="digits_mlp", trajectories=8, steps=2000), TrainingTask(task="fm16")],
        weights=WeightsFile(file="w.safetensors", sha256="a" * 64, size=12, urls=["https://example.org/w"]),
        measurements=[make_measurement((100, 1.5, True, 60, 1.25, True)).model_copy(update={"note": "A note."})],
        known_failures=["wide | deep networks"],
        references=["a paper"],
    )
    assert render_card(card) == (
        "# wnn_h8.test\n\na small one\n\n"
        "|  |  |\n| --- | --- |\n"
        "| family | `wnn(hidden=8, context=3, max_horizon=7)` |\n"
        "| looks at | 3 past states, positions: none |\n"
        "| predicts | up to 7 states ahead; made for periods of some 100 steps |\n"
        "| trained on | digits_mlp (8 trajectories, 2000 steps each); fm16 |\n"
        "| trained by | `ninokit pretrain`, recipe `zoo/r.yaml`, commit abcdef0-dirty, CPU, 62 s |\n"
        "| licence | MIT |\n"
        f"| weights | `w.safetensors`, 12 bytes, sha256 `{'a' * 64}`, from https://example.org/w |\n"
        "| reference | a paper |\n"
        "| known to fail | wide \\| deep networks |\n\n"
        "## First crossings, one untuned rate, trained weights: an older protocol, see docs/evaluation.md\n\n"
        "`digits_mlp` (in the training distribution), to a test accuracy of 0.95; AdamW, learning rate 0.001; a "
        "nowcast every 100 steps; a processor, threads 1; commit not known:\n\n"
        "| seed | baseline steps | nowcasting steps | saved | baseline s | nowcasting s | saved |\n"
        "| ---: | -------------: | ---------------: | ----: | ---------: | -----------: | ----: |\n"
        "|    0 |            100 |               60 |  40 % |        1.5 |          1.2 |  17 % |\n\n"
        "A note.\n"
    )


def test_savings_come_first():
    savings = [make_saving(commit="c" * 40), make_saving(task="fm16", distribution="out", lr=1e-4, seeds=10)]
    text = render_card(make_card(savings=savings, measurements=[make_measurement((100, 1.5, True, 60, 1.25, True))]))
    before, _, measured = text.partition("\n## Steps saved against rivals tuned alike\n\n")
    assert "steps" not in before.splitlines()[-1]
    new, heading, old = measured.partition("\n## First crossings, one untuned rate, trained weights: an older protocol")
    assert heading
    assert new.endswith(
        "\n\n"
        "| task | steps | in or out | rival | saved | against `adamw` | seeds | period | rate | on |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| `digits_mlp` | 2000 | in | `snoo` | -4 % [-13, 5] | ≥50 % [31, 50] | 5 | 150 | 0.008 | "
        "a processor, threads 1; commit ccccccc |\n"
        "| `fm16` | 2000 | out | `snoo` | -4 % [-13, 5] | ≥50 % [31, 50] | 10 | 150 | 0.0001 | "
        "a processor, threads 1; commit not known |\n"
    )
    assert "| seed | baseline steps |" in old


def test_what_was_compared_with_stands_beside_it():
    measurement = make_measurement((100, 1.5, True, 60, 1.25, True), (100, 1.5, True, 80, 1.25, True))
    other = Run(steps=90, seconds=1.0, reached=True)
    seeds = [seed.model_copy(update={"others": {"linefit": other}}) for seed in measurement.seeds]
    text = render_card(make_card(measurements=[measurement.model_copy(update={"seeds": seeds})]))
    assert text.endswith(
        "| against the same baseline | steps saved |\n| --- | --- |\n"
        "| nowcasting | 30 % (seeds: 40 %, 20 %) |\n| linefit | 10 % (seeds: 10 %, 10 %) |\n"
    )


def test_what_is_not_known():
    card = render_card(make_card(training=TrainingRun()))
    assert "| trained by | not known |" in card
    assert "| weights | not known |" in card


@pytest.mark.parametrize(
    ("costs", "text"),
    [
        ([(100, 1.0, True, 60, 1.0, True)], "40 %"),
        ([(100, 1.0, True, 60, 1.0, True), (100, 1.0, True, 120, 1.0, True)], "10 % (seeds: 40 %, -20 %)"),
        ([(100, 1.0, False, 100, 1.0, False)], "–"),
    ],
)
def test_measurements_in_short(costs, text):
    assert short_savings(make_card(measurements=[make_measurement(*costs)])) == [f"digits_mlp: steps saved {text}"]


@pytest.mark.parametrize(
    ("saved", "text"),
    [
        ([(0.254, "=")], "25 % (median of 1)"),
        ([(0.3, "="), (-0.2, "="), (0.1, "=")], "10 % (median of 3)"),
        ([(0.5, "≥"), (0.3, "="), (-0.2, "=")], "30 % (median of 3)"),  # the first is above in any case
        ([(0.5, "≥"), (0.3, "=")], "≥40 % (median of 2)"),
        ([(-1.0, "≤"), (0.3, "=")], "≤-35 % (median of 2)"),
    ],
)
def test_savings_in_short(saved, text):
    savings = [
        make_saving(against_rival=SavedSteps(share=share, low=-1.0, high=0.5, bound=bound)) for share, bound in saved
    ]
    card = make_card(savings=savings, measurements=[make_measurement((100, 1.0, True, 60, 1.0, True))])
    assert short_savings(card) == [f"steps saved against the best rival: {text}"]


def test_the_overview():
    weights = WeightsFile(file="w.safetensors", sha256="a" * 64, size=12_345)
    page = render_page([make_card(weights=weights)])
    assert "| `wnn_h8.test` | `wnn` | 12 kB | shipped | a small one |" in page
    assert "\n## wnn_h8.test\n" in page
