"""Tiny Shakespeare (Karpathy 2015), character by character, with a tiny GPT-2.

Shapes: B sequences in a batch, T = 64 characters a sequence.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ninokit._optional import require
from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.images import data_folder
from ninokit.errors import DatasetError

_NAME = "shakespeare_gpt2"
_FILE = Path("tinyshakespeare") / "input.txt"
# All characters of the text, in the order of their codes: token 0 is the line feed, token 64 the z.
_ALPHABET = b"\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_TOKEN = -1
_LENGTH = 64


def load_shakespeare(root: Path | None) -> ClassificationData:
    """Tiny Shakespeare from its text file, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``tinyshakespeare/input.txt`` or ``tinyshakespeare/input.txt.gz``.

    Returns:
        Sequences of 64 characters, each labelled with the one that follows: 15,685 of the first nine tenths of the
        text for training, 1,742 of the rest for validation.

    Raises:
        DatasetError: the file is missing, damaged, too short, or another text.
    """
    path = _find(data_folder(root, _NAME))
    tokens = _tokens(_read(path), path)
    cut = len(tokens) * 9 // 10
    if len(tokens) - cut <= _LENGTH:
        raise DatasetError(
            f"task {_NAME!r}: {path} has {len(tokens)} characters; expected more than {_LENGTH} in its last tenth, and "
            "1,115,394 in all. Fetch the file again"
        )
    (train_inputs, train_labels), (test_inputs, test_labels) = _sequences(tokens[:cut]), _sequences(tokens[cut:])
    return ClassificationData(
        train_inputs=train_inputs, train_labels=train_labels, test_inputs=test_inputs, test_labels=test_labels
    )


def _find(root: Path) -> Path:
    plain = root / _FILE
    for path in (plain, plain.with_suffix(".txt.gz")):
        if path.is_file():
            return path
    raise DatasetError(
        f"task {_NAME!r}: {plain} is missing. Expected the text of tiny Shakespeare there, packed (.gz) or unpacked. "
        f"Put it there, or set data_root to the folder of {_FILE.as_posix()}"
    )


def _read(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"task {_NAME!r}: {path} is damaged: {error}. Fetch the file again") from error


def _tokens(text: bytes, path: Path) -> Tensor:
    """A token a character, shape (characters,)."""
    table = np.full(256, _NO_TOKEN)
    table[list(_ALPHABET)] = np.arange(len(_ALPHABET))
    tokens = table[np.frombuffer(text, dtype=np.uint8)]
    unknown = np.flatnonzero(tokens == _NO_TOKEN)
    if len(unknown):
        raise DatasetError(
            f"task {_NAME!r}: {path} has {text[unknown[0] : unknown[0] + 1]!r} at byte {unknown[0]}; expected the "
            f"{len(_ALPHABET)} characters of tiny Shakespeare alone. Fetch the file again"
        )
    return torch.from_numpy(tokens)


def _sequences(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and labels of shape (sequences, T), side by side in the text; what does not fill one is left out."""
    count = (len(tokens) - 1) // _LENGTH
    used = count * _LENGTH
    return tokens[:used].view(count, _LENGTH), tokens[1 : used + 1].view(count, _LENGTH)


class _Logits(nn.Module):
    """A language model of transformers that returns its logits alone, from tokens (B, T) to (B, T, vocabulary)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens).logits
        return logits


def build_gpt2() -> nn.Module:
    """A GPT-2 of 3 layers, 3 heads and width 48, without dropout: it sees the text a few times only.

    Returns:
        A network from tokens of shape (B, T), T at most 64, to logits of shape (B, T, 65).

    Raises:
        DependencyError: transformers is missing.
    """
    library = require("transformers", f"task {_NAME!r}")
    config = library.GPT2Config(
        vocab_size=len(_ALPHABET),
        n_positions=_LENGTH,
        n_embd=48,
        n_layer=3,
        n_head=3,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        # GPT-2's own special tokens are outside this vocabulary.
        bos_token_id=None,
        eos_token_id=None,
    )
    return _Logits(library.GPT2LMHeadModel(config))


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
