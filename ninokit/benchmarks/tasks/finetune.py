"""Fine-tuning: a CNN from FashionMNIST to MNIST, and a GPT-2 with LoRA from WikiText-2 to tiny Shakespeare.

Both networks are pretrained here, the first time their data is loaded. Shapes: B examples in a batch, T = 64 bytes a
sequence.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.fashion import load_fashion_mnist
from ninokit.benchmarks.tasks.mnist import load_mnist
from ninokit.benchmarks.tasks.networks import vision_cnn
from ninokit.benchmarks.tasks.pretrained import Pretraining
from ninokit.benchmarks.tasks.shakespeare import ALPHABET, load_shakespeare
from ninokit.benchmarks.tasks.text import sequences
from ninokit.benchmarks.tasks.transformers import gpt2, lora_names, with_lora
from ninokit.benchmarks.tasks.wikitext import read_wikitext2

__all__ = ["FINETUNE_CNN", "FINETUNE_LORA_GPT2"]

_CNN, _GPT2 = "finetune_cnn", "finetune_lora_gpt2"
_HEAD = "8."  # the last layer of `vision_cnn`
_LENGTH = 64
_BYTES = 256  # the vocabulary of both texts: WikiText-2 has characters that tiny Shakespeare lacks

PRETRAINED_CNN = Pretraining(
    name="fashion_cnn_14k",
    build_model=partial(vision_cnn, 1),
    batch_size=128,
    lr=0.02,
    steps=3_000,
)

PRETRAINED_GPT2 = Pretraining(
    name="wikitext2_gpt2_bytes",
    build_model=partial(gpt2, _GPT2, vocabulary=_BYTES, length=_LENGTH, width=64, layers=2, heads=4),
    batch_size=16,
    lr=0.006,
    weight_decay=0.1,
    steps=2_000,
)


def load_mnist_after_fashion(root: Path | None) -> ClassificationData:
    """MNIST, with the weights of a network that knows FashionMNIST.

    Args:
        root: the folder that holds ``MNIST/raw`` and ``FashionMNIST/raw``.

    Returns:
        MNIST's images, and the weights of all layers but the last: MNIST's classes are others.

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: torchvision is missing.
    """
    weights = PRETRAINED_CNN.weights(load_fashion_mnist(root, _CNN))
    return replace(
        load_mnist(root, _CNN),
        weights={name: weight for name, weight in weights.items() if not name.startswith(_HEAD)},
    )


def load_shakespeare_after_wikitext(root: Path | None) -> ClassificationData:
    """Tiny Shakespeare in bytes, with the weights of a GPT-2 that knows WikiText-2.

    Args:
        root: the folder that holds ``tinyshakespeare/input.txt``, ``wikitext-2/wiki.train.tokens`` and
            ``wikitext-2/wiki.valid.tokens``, packed (.gz) or unpacked.

    Returns:
        The sequences of `load_shakespeare`, and weights for the network with LoRA.

    Raises:
        DatasetError: a file is missing or damaged.
        DependencyError: transformers is missing.
    """
    characters = load_shakespeare(root, _GPT2)
    code = torch.tensor(list(ALPHABET))
    weights = PRETRAINED_GPT2.weights(_wikitext_bytes(root))
    return ClassificationData(
        train_inputs=code[characters.train_inputs],
        train_labels=code[characters.train_labels],
        test_inputs=code[characters.test_inputs],
        test_labels=code[characters.test_labels],
        weights=lora_names(weights),
    )


def _wikitext_bytes(root: Path | None) -> ClassificationData:
    (train, train_labels), (valid, valid_labels) = (_bytes(read_wikitext2(root, s, _GPT2)) for s in ("train", "valid"))
    return ClassificationData(
        train_inputs=train, train_labels=train_labels, test_inputs=valid, test_labels=valid_labels
    )


def _bytes(text: str) -> tuple[Tensor, Tensor]:
    return sequences(torch.frombuffer(bytearray(text, "utf-8"), dtype=torch.uint8).long(), _LENGTH)


# Both rates are constant and small: in fine-tuning a large one destroys what was learnt. A nowcaster sees weights here
# that move little and evenly, unlike those of a training from scratch.
FINETUNE_CNN = Task(
    name=_CNN,
    description=(
        "MNIST after FashionMNIST, 3-layer CNN of 14k parameters, loss; needs data_root with MNIST/raw and "
        "FashionMNIST/raw"
    ),
    build_model=partial(vision_cnn, 1),
    load_data=load_mnist_after_fashion,
    batch_size=128,
    # A tenth of the rate with which this network is trained from scratch (`fm16`).
    lr=0.0006,
    total_steps=2_000,
    eval_every=50,
    target=0.28,
    period=200,
    metric=replace(VALIDATION_LOSS, name="test loss (nats)"),
    needs_data_root=True,
    held_out=True,
)

FINETUNE_LORA_GPT2 = Task(
    name=_GPT2,
    description=(
        "tiny Shakespeare after WikiText-2, 2-layer GPT-2 with LoRA, 16k of 137k parameters trained, loss; needs "
        "data_root with tinyshakespeare and wikitext-2"
    ),
    build_model=lambda: with_lora(_GPT2, PRETRAINED_GPT2.build_model(), rank=8),
    load_data=load_shakespeare_after_wikitext,
    batch_size=16,
    # A fifth of what a small GPT-2 takes from scratch (`shakespeare_gpt2_tiny`).
    lr=0.001,
    total_steps=2_000,
    eval_every=50,
    target=2.075,
    period=200,
    metric=replace(VALIDATION_LOSS, name="validation loss (nats a character)"),
    needs_data_root=True,
    held_out=True,
)
