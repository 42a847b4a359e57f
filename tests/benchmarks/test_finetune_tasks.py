"""Fine-tuning: what is taken over, what is new, and what is trained, with pretrainings of a few steps."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import ninokit
from ninokit.benchmarks.tasks import finetune
from ninokit.benchmarks.tasks.finetune import FINETUNE_CNN, FINETUNE_LORA_GPT2
from ninokit.benchmarks.training import train
from ninokit.errors import ConfigError, DependencyError
from ninokit.pretraining.stacked_training import StackedTraining
from ninokit.testing import check_encoding

pytest.importorskip("torchvision")
pytest.importorskip("transformers")

VERSE = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n"
PROSE = " = Gold dollar = \n the café was 3 @.@ 5 miles from 戦場 , <unk> \n"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "cache"))
    for name in ("PRETRAINED_CNN", "PRETRAINED_GPT2"):
        monkeypatch.setattr(finetune, name, replace(getattr(finetune, name), steps=2, batch_size=4))


@pytest.fixture
def images(tmp_path):
    """MNIST and FashionMNIST of 24 training and 5 test images, unpacked; MNIST's labels are all 7."""
    source = np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST"):
        folder = tmp_path / "data" / name / "raw"
        folder.mkdir(parents=True)
        for split, count in (("train", 24), ("t10k", 5)):
            pixels = source.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            labels = np.full(count, 7) if name == "MNIST" else source.integers(0, 10, count)
            header = struct.pack(">IIII", 0x803, count, 28, 28)
            (folder / f"{split}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
            header = struct.pack(">II", 0x801, count)
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
    return tmp_path / "data"


@pytest.fixture
def texts(tmp_path):
    for file, text in (
        ("tinyshakespeare/input.txt", VERSE * 40),
        ("wikitext-2/wiki.train.tokens", PROSE * 20),
        ("wikitext-2/wiki.valid.tokens", PROSE * 3),
    ):
        path = tmp_path / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return tmp_path / "data"


def _state(task, data, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return task.build_from(data).state_dict()


def test_the_cnn_sees_mnist_and_starts_with_all_layers_but_the_last(images):
    data = FINETUNE_CNN.load_data(images)
    assert data.train_labels.tolist() == [7] * 22
    pretrained = finetune.PRETRAINED_CNN.weights(finetune.load_fashion_mnist(images, "any"))
    assert set(pretrained) - set(data.weights) == {"8.weight", "8.bias"}
    first, second = (_state(FINETUNE_CNN, data, seed) for seed in (0, 1))
    for name, value in pretrained.items():
        new = name.startswith("8.")
        assert torch.equal(first[name], value) is not new
        assert torch.equal(first[name], second[name]) is not new


def test_the_texts_are_bytes(texts):
    data = FINETUNE_LORA_GPT2.load_data(texts)
    assert bytes(data.train_inputs.flatten().tolist()).decode() == (VERSE * 40)[: data.train_inputs.numel()]
    assert bytes(data.test_labels[0].tolist()).decode() in VERSE * 3
    wikitext = finetune._wikitext_bytes(texts)
    assert bytes(wikitext.train_inputs.flatten().tolist()) == (PROSE * 20).encode()[: wikitext.train_inputs.numel()]
    assert bytes(wikitext.train_labels[0].tolist()) == (PROSE * 20).encode()[1:65]


@pytest.fixture
def adapted(texts):
    pytest.importorskip("peft")
    return FINETUNE_LORA_GPT2.load_data(texts)


def test_the_gpt2_with_adapters_starts_as_the_pretrained_one(texts, adapted):
    pretrained = finetune.PRETRAINED_GPT2.build_model()
    own = finetune.PRETRAINED_GPT2.weights(finetune._wikitext_bytes(texts))
    pretrained.load_state_dict(own, strict=False)
    tokens = adapted.test_inputs[:2]
    torch.testing.assert_close(FINETUNE_LORA_GPT2.build_from(adapted)(tokens), pretrained(tokens), rtol=0, atol=1e-6)


def test_adapters_are_new_at_each_seed_and_of_rank_8(adapted):
    first, second = (_state(FINETUNE_LORA_GPT2, adapted, seed) for seed in (0, 1))
    differ = {name for name in first if not torch.equal(first[name], second[name])}
    assert differ == {name for name in first if "lora_A" in name}
    assert len(differ) == 2 * 4
    assert {len(first[name]) for name in differ} == {8}
    assert not any(first[name].any() for name in first if "lora_B" in name)


def test_adapters_alone_are_trained(adapted):
    model = FINETUNE_LORA_GPT2.build_from(adapted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = FINETUNE_LORA_GPT2.build_optimizer(model)
    for _ in range(2):  # at the first step of all, only lora_B has a gradient
        optimizer.zero_grad()
        FINETUNE_LORA_GPT2.loss(model, adapted.train_inputs[:4], adapted.train_labels[:4]).backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "lora" in name}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # A layer's matrices: 64 to 192, 64 to 64, 64 to 256 and back.
    assert trained == 2 * 8 * (64 + 192 + 64 + 64 + 2 * (64 + 256))
    assert sum(p.numel() for p in model.parameters()) - trained == (256 + 64) * 64 + 2 * (12 * 64**2 + 13 * 64) + 128


def test_descriptions_count_the_parameters(adapted):
    model = FINETUNE_CNN.build_model()
    assert f"of {sum(p.numel() for p in model.parameters()) / 1000:.0f}k parameters" in FINETUNE_CNN.description
    model = FINETUNE_LORA_GPT2.build_model()
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad >= only) for only in (True, False)]
    trained, all_of_them = (f"{count / 1000:.0f}k" for count in counts)
    assert f"{trained} of {all_of_them} parameters trained" in FINETUNE_LORA_GPT2.description


def test_the_graph_with_adapters_is_proved(adapted):
    model = FINETUNE_LORA_GPT2.build_from(adapted)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.normal_()
    graph = ninokit.encode(model)
    assert check_encoding(model, adapted.test_inputs[:2], graph, min_share=0.9).change < 1e-9


def test_a_run_with_adapters_learns_and_repeats(adapted):
    task = replace(FINETUNE_LORA_GPT2, total_steps=24, eval_every=12, period=12, batch_size=4, lr=0.01)

    def attach(optimizer, model):
        return ninokit.attach(optimizer, model, "linefit", period=task.period, total_steps=task.total_steps)

    first, second = (train(task, adapted, seed=0, attach=attach) for _ in range(2))
    assert [event.accepted for event in first.events] == [True]
    assert [point.score for point in first.points] == [point.score for point in second.points]
    start = task.evaluate(task.build_from(adapted), adapted)
    assert first.points[-1].score < start - 0.1


def test_networks_with_adapters_are_not_trained_in_stacks(adapted):
    hyperparameters = [{"lr": 0.01, "weight_decay": 0.0}]
    with pytest.raises(ConfigError, match="frozen"):
        StackedTraining(FINETUNE_LORA_GPT2, adapted, seeds=[0], hyperparameters=hyperparameters, execution="looped")


@pytest.mark.filterwarnings("ignore")
def test_the_cnn_in_a_stack_starts_from_the_weights(images):
    data = FINETUNE_CNN.load_data(images)
    hyperparameters = [{"lr": 0.01, "weight_decay": 0.0}]
    training = StackedTraining(FINETUNE_CNN, data, seeds=[4], hyperparameters=hyperparameters, execution="looped")
    torch.manual_seed(4)
    expected = torch.cat([p.detach().flatten() for p in FINETUNE_CNN.build_from(data).parameters()])
    assert torch.equal(training.parameters[0], expected)


def test_a_missing_peft_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DependencyError, match=r"^task 'finetune_lora_gpt2' needs the package 'peft'"):
        FINETUNE_LORA_GPT2.build_model()
