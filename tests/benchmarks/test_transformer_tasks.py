"""The tiny transformers: text from files made here, networks counted by hand, and the proof of their graphs."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import ninokit
from ninokit.benchmarks import Better
from ninokit.benchmarks.tasks.mnist import MNIST_VIT
from ninokit.benchmarks.tasks.shakespeare import SHAKESPEARE_GPT2
from ninokit.benchmarks.training import train
from ninokit.errors import DatasetError, DependencyError
from ninokit.testing import check_encoding

pytest.importorskip("transformers")
pytest.importorskip("torchvision")

ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# 1,351 characters: the last tenth, 136 of them, is two sequences of 64 and what does not fill a third.
TEXT = (ALPHABET * 21)[:1351]


@pytest.fixture
def write(tmp_path):
    """A data root with a text, packed if the name says so."""

    def make(text: bytes | str, name: str = "input.txt"):
        content = text.encode() if isinstance(text, str) else text
        folder = tmp_path / "data" / "tinyshakespeare"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / "data"

    return make


def _text(tokens: torch.Tensor) -> str:
    return "".join(ALPHABET[token] for token in tokens.flatten().tolist())


@pytest.mark.parametrize("name", ["input.txt", "input.txt.gz"])
def test_text_in_sequences_with_the_next_characters(write, name):
    data = SHAKESPEARE_GPT2.load_data(write(TEXT, name))
    assert tuple(data.train_inputs.shape) == tuple(data.train_labels.shape) == (18, 64)
    assert tuple(data.test_inputs.shape) == tuple(data.test_labels.shape) == (2, 64)
    assert _text(data.train_inputs) == TEXT[: 18 * 64]
    assert _text(data.train_labels) == TEXT[1 : 18 * 64 + 1]
    assert _text(data.test_inputs) == TEXT[1215 : 1215 + 128]
    assert _text(data.test_labels) == TEXT[1216 : 1216 + 128]


def test_validation_starts_where_training_ends(write):
    data = SHAKESPEARE_GPT2.load_data(write("a" * 9_000 + "b" * 1_000))
    assert set(_text(data.train_inputs) + _text(data.train_labels)) == {"a"}
    assert set(_text(data.test_inputs) + _text(data.test_labels)) == {"b"}


def test_a_missing_text_is_named(tmp_path):
    with pytest.raises(DatasetError) as caught:
        SHAKESPEARE_GPT2.load_data(tmp_path)
    path = tmp_path / "tinyshakespeare" / "input.txt"
    assert str(caught.value) == (
        f"task 'shakespeare_gpt2': {path} is missing. Expected the text of tiny Shakespeare there, packed (.gz) or "
        "unpacked. Put it there, or set data_root to the folder of tinyshakespeare/input.txt"
    )


def test_a_text_of_exactly_one_sequence_for_validation_will_do_and_none_will_not(write):
    # A sequence and the character after it: the last tenth of 650 is 65.
    assert len(SHAKESPEARE_GPT2.load_data(write(TEXT[:650])).test_inputs) == 1
    root = write(TEXT[:640])
    with pytest.raises(DatasetError) as caught:
        SHAKESPEARE_GPT2.load_data(root)
    assert str(caught.value) == (
        f"task 'shakespeare_gpt2': {root / 'tinyshakespeare' / 'input.txt'} has 640 characters; expected more than 64 "
        "in its last tenth, and 1,115,394 in all. Fetch the file again"
    )


@pytest.mark.parametrize(("foreign", "shown"), [("é", r"b'\xc3'"), ("\r\n", r"b'\r'"), ("0", "b'0'")])
def test_another_text_is_refused_with_the_place(write, foreign, shown):
    root = write(TEXT[:700] + foreign + TEXT[700:])
    with pytest.raises(DatasetError) as caught:
        SHAKESPEARE_GPT2.load_data(root)
    assert str(caught.value) == (
        f"task 'shakespeare_gpt2': {root / 'tinyshakespeare' / 'input.txt'} has {shown} at byte 700; expected the 65 "
        "characters of tiny Shakespeare alone. Fetch the file again"
    )


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: b"no" + packed, lambda _: b"\x1f\x8b"])
def test_a_damaged_text_is_refused(write, damage):
    root = write(TEXT, "input.txt.gz")
    path = root / "tinyshakespeare" / "input.txt.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"^task 'shakespeare_gpt2': .*input\.txt\.gz is damaged: .+\. Fetch the"):
        SHAKESPEARE_GPT2.load_data(root)


@pytest.mark.parametrize(
    ("task", "module", "package"),
    [(SHAKESPEARE_GPT2, "transformers", "transformers"), (MNIST_VIT, "torchvision.models", "torchvision")],
)
def test_a_missing_package_is_named_with_what_to_install(monkeypatch, task, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    expected = rf"^task '{task.name}' needs the package '{package}'.*: pip install \"ninokit\[benchmarks\]\"$"
    with pytest.raises(DependencyError, match=expected):
        task.build_model()


def _layer(width: int) -> int:
    """Numbers of a layer: attention, four times as wide feed-forward part, two norms; all with biases."""
    return 4 * (width**2 + width) + 2 * 4 * width**2 + 5 * width + 2 * 2 * width


GPT2_SIZE = 65 * 48 + 64 * 48 + 3 * _layer(48) + 2 * 48
VIT_SIZE = (49 * 32 + 32) + 32 + 17 * 32 + 2 * _layer(32) + 2 * 32 + (32 * 10 + 10)
CASES = [
    pytest.param(SHAKESPEARE_GPT2, GPT2_SIZE, torch.arange(12).view(2, 6), (2, 6, 65), id="gpt2"),
    pytest.param(MNIST_VIT, VIT_SIZE, torch.linspace(-1, 1, 2 * 784).view(2, 1, 28, 28), (2, 10), id="vit"),
]


@pytest.mark.parametrize(("task", "size", "inputs", "outputs"), CASES)
def test_networks(task, size, inputs, outputs):
    model = task.build_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == size
    assert tuple(model(inputs).shape) == outputs
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]


@pytest.mark.parametrize(("task", "size", "inputs", "outputs"), CASES)
def test_graphs_hold_every_parameter_and_are_proved(task, size, inputs, outputs):
    model = task.build_model()
    graph = ninokit.encode(model)
    assert graph.num_parameters == size
    assert check_encoding(model, inputs, graph, min_share=0.99).change < 1e-9


@pytest.mark.parametrize(("task", "size", "inputs", "outputs"), CASES)
def test_initial_weights_are_the_seeds(task, size, inputs, outputs):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(task.build_model().parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_gpt2_does_not_look_ahead():
    model = SHAKESPEARE_GPT2.build_model().eval()
    first, second = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 60]])
    torch.testing.assert_close(model(first)[:, :3], model(second)[:, :3])
    assert not torch.allclose(model(first)[:, 3], model(second)[:, 3])


def test_the_embedding_of_grey_patches_is_as_torchvision_initialises_its_own():
    patches = MNIST_VIT.build_model().conv_proj
    assert tuple(patches.weight.shape) == (32, 1, 7, 7)
    assert patches.weight.std().item() == pytest.approx(1 / 7, rel=0.1)
    assert not patches.bias.any()


def test_the_metrics():
    assert SHAKESPEARE_GPT2.metric.name == "validation loss (nats a character)"
    assert SHAKESPEARE_GPT2.metric.better is Better.LOWER
    assert (MNIST_VIT.metric.name, MNIST_VIT.metric.better) == ("test accuracy", Better.HIGHER)


def test_a_run_on_text_learns_nowcasts_and_repeats_bit_for_bit(write):
    """The text repeats its alphabet, so that the next character is certain."""
    task = replace(SHAKESPEARE_GPT2, total_steps=15, eval_every=5, period=5, batch_size=4)
    data = task.load_data(write(TEXT))

    def attach(optimizer, model):
        return ninokit.attach(optimizer, model, "linefit", period=task.period, total_steps=task.total_steps)

    first, second = (train(task, data, seed=0, attach=attach) for _ in range(2))
    assert [event.accepted for event in first.events] == [True, True]
    assert [point.score for point in first.points] == [point.score for point in second.points]
    assert first.points[-1].score < first.points[0].score < 4.2  # ln 65 = 4.17, of a network that knows nothing
