"""Tiny Shakespeare (Karpathy 2015), character by character, with a tiny GPT-2.

Shapes: B sequences in a batch, T = 64 characters a sequence.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.images import data_folder
from ninokit.benchmarks.tasks.text import find_text, read_text, sequences
from ninokit.benchmarks.tasks.transformers import gpt2
from ninokit.errors import DatasetError

_NAME = "shakespeare_gpt2"
_FILE = Path("tinyshakespeare") / "input.txt"
# All characters of the text, in the order of their codes: token 0 is the line feed, token 64 the z.
ALPHABET = b"\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_TOKEN = -1
_LENGTH = 64


def load_shakespeare(root: Path | None, task: str = _NAME) -> ClassificationData:
    """Tiny Shakespeare from its text file, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``tinyshakespeare/input.txt`` or ``tinyshakespeare/input.txt.gz``.
        task: the task's name, for error messages.

    Returns:
        Sequences of 64 characters, each labelled with the one that follows: 15,685 of the first nine tenths of the
        text for training, 1,742 of the rest for validation.

    Raises:
        DatasetError: the file is missing, damaged, too short, or another text.
    """
    path = find_text(data_folder(root, task), _FILE, task=task, content="the text of tiny Shakespeare")
    tokens = _tokens(read_text(path, task), path, task)
    cut = len(tokens) * 9 // 10
    if len(tokens) - cut <= _LENGTH:
        raise DatasetError(
            f"task {task!r}: {path} has {len(tokens)} characters; expected more than {_LENGTH} in its last tenth, and "
            "1,115,394 in all. Fetch the file again"
        )
    (train_inputs, train_labels), (test_inputs, test_labels) = (
        sequences(part, _LENGTH) for part in (tokens[:cut], tokens[cut:])
    )
    return ClassificationData(
        train_inputs=train_inputs, train_labels=train_labels, test_inputs=test_inputs, test_labels=test_labels
    )


def _tokens(text: bytes, path: Path, task: str) -> Tensor:
    """A token a character, shape (characters,)."""
    table = np.full(256, _NO_TOKEN)
    table[list(ALPHABET)] = np.arange(len(ALPHABET))
    tokens = table[np.frombuffer(text, dtype=np.uint8)]
    unknown = np.flatnonzero(tokens == _NO_TOKEN)
    if len(unknown):
        raise DatasetError(
            f"task {task!r}: {path} has {text[unknown[0] : unknown[0] + 1]!r} at byte {unknown[0]}; expected the "
            f"{len(ALPHABET)} characters of tiny Shakespeare alone. Fetch the file again"
        )
    return torch.from_numpy(tokens)


def build_gpt2(task: str = _NAME, *, width: int = 48, layers: int = 3, heads: int = 3) -> nn.Module:
    """A GPT-2 on characters, without dropout.

    Args:
        task: the task's name, for the error message.
        width: of the residual stream.
        layers: at least 1.
        heads: of the attention.

    Returns:
        A network from tokens of shape (B, T), T at most 64, to logits of shape (B, T, 65).

    Raises:
        DependencyError: transformers is missing.
    """
    return gpt2(task, vocabulary=len(ALPHABET), length=_LENGTH, width=width, layers=layers, heads=heads)


SHAKESPEARE_GPT2 = Task(
    name=_NAME,
    description="tiny Shakespeare, 3-layer GPT-2 of 91k parameters, loss; needs data_root with tinyshakespeare",
    build_model=build_gpt2,
    load_data=load_shakespeare,
    batch_size=32,
    lr=0.006,
    weight_decay=0.1,
    total_steps=2_000,
    eval_every=50,
    target=1.9,
    period=200,
    metric=replace(VALIDATION_LOSS, name="validation loss (nats a character)"),
    needs_data_root=True,
)


def _small(name: str, description: str, *, width: int, layers: int, heads: int, lr: float) -> Task:
    """A task to learn from, of few enough parameters to train many."""
    return replace(
        SHAKESPEARE_GPT2,
        name=name,
        description=f"tiny Shakespeare, {description}, loss; needs data_root with tinyshakespeare",
        build_model=partial(build_gpt2, name, width=width, layers=layers, heads=heads),
        load_data=partial(load_shakespeare, task=name),
        batch_size=16,
        lr=lr,
        total_steps=1_000,
        period=100,
        target=2.25,
    )


SHAKESPEARE_GPT2_NARROW = _small(
    "shakespeare_gpt2_narrow", "2-layer GPT-2 of 18k parameters", width=24, layers=2, heads=2, lr=0.006
)
SHAKESPEARE_GPT2_SHALLOW = _small(
    "shakespeare_gpt2_shallow", "1-layer GPT-2 of 17k parameters", width=32, layers=1, heads=4, lr=0.005
)

# The network and the budget of the fair comparisons: at a tuned rate, and at the one that the paper has for language.
SHAKESPEARE_GPT2_TINY = replace(
    _small(
        "shakespeare_gpt2_tiny", "2-layer GPT-2 of 30k parameters, tuned rate", width=32, layers=2, heads=4, lr=0.005
    ),
    total_steps=2_000,
    period=200,
    target=1.985,
)
SHAKESPEARE_GPT2_TINY_SLOW = replace(
    _small(
        "shakespeare_gpt2_tiny_slow",
        "2-layer GPT-2 of 30k parameters, the paper's rate",
        width=32,
        layers=2,
        heads=4,
        lr=0.0002,
    ),
    total_steps=2_000,
    period=200,
    target=2.54,
)
