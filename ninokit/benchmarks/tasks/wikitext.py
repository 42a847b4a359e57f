"""WikiText-2 (Merity et al. 2016) in pieces of words, with a small GPT-2: a task to judge nowcasters by.

Shapes: B sequences in a batch, T = 64 tokens a sequence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ninokit._optional import require
from ninokit.benchmarks.metric import VALIDATION_LOSS
from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.tasks.images import data_folder
from ninokit.benchmarks.tasks.text import find_text, read_text, sequences
from ninokit.benchmarks.tasks.transformers import gpt2
from ninokit.errors import DatasetError

_NAME = "wikitext2_gpt2"
_FOLDER = Path("wikitext-2")
_VOCABULARY = 2_048
_LENGTH = 64
# Of the validation text: enough for three digits of the loss, and few enough to evaluate often on a CPU.
_TEST_SEQUENCES = 500


def load_wikitext2(root: Path | None) -> ClassificationData:
    """WikiText-2 from its text files, packed (.gz) or unpacked, in pieces of words.

    The pieces are byte pairs (Sennrich et al. 2016) learnt from the training text: GPT-2's own fifty thousand would
    make nine tenths of a small network an embedding.

    Args:
        root: the folder that holds ``wikitext-2/wiki.train.tokens`` and ``wikitext-2/wiki.valid.tokens``.

    Returns:
        Sequences of 64 tokens, each labelled with the one that follows: all of the training text, and the first 500 of
        the validation text.

    Raises:
        DatasetError: a file is missing, damaged, not UTF-8, or too short.
        DependencyError: tokenizers is missing.
    """
    train, valid = (read_wikitext2(root, split, _NAME) for split in ("train", "valid"))
    pieces = require("tokenizers", f"task {_NAME!r}").ByteLevelBPETokenizer()
    # Line by line: a whole text at once would be one word to count.
    pieces.train_from_iterator(train.splitlines(), vocab_size=_VOCABULARY, show_progress=False)
    (train_inputs, train_labels), (test_inputs, test_labels) = (_encoded(pieces, text) for text in (train, valid))
    return ClassificationData(
        train_inputs=train_inputs,
        train_labels=train_labels,
        test_inputs=test_inputs[:_TEST_SEQUENCES],
        test_labels=test_labels[:_TEST_SEQUENCES],
    )


def read_wikitext2(root: Path | None, split: str, task: str) -> str:
    """A text of WikiText-2 from its file, packed (.gz) or unpacked.

    Args:
        root: the folder that holds ``wikitext-2/wiki.train.tokens`` and its like.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        task: the task's name, for error messages.

    Returns:
        The text.

    Raises:
        DatasetError: the file is missing, damaged, or not UTF-8.
    """
    file = _FOLDER / f"wiki.{split}.tokens"
    path = find_text(data_folder(root, task), file, task=task, content=f"the {split} text of WikiText-2")
    try:
        return read_text(path, task).decode()
    except UnicodeDecodeError as error:
        raise DatasetError(f"task {task!r}: {path} is not UTF-8: {error}. Fetch the file again") from error


def _encoded(pieces: object, text: str) -> tuple[Tensor, Tensor]:
    lines = pieces.encode_batch(text.splitlines(keepends=True))  # type: ignore[attr-defined]
    tokens = torch.tensor([token for line in lines for token in line.ids])
    if len(tokens) <= _LENGTH:
        raise DatasetError(
            f"task {_NAME!r}: a text of WikiText-2 has {len(tokens)} tokens; expected more than {_LENGTH}, and some "
            "millions in the training text. Fetch the files again"
        )
    return sequences(tokens, _LENGTH)


WIKITEXT2_GPT2 = Task(
    name=_NAME,
    description="WikiText-2, 3-layer GPT-2 of 285k parameters, loss; needs data_root with wikitext-2",
    build_model=lambda: gpt2(_NAME, vocabulary=_VOCABULARY, length=_LENGTH, width=64, layers=3, heads=4),
    load_data=load_wikitext2,
    batch_size=32,
    lr=0.002,
    weight_decay=0.1,
    total_steps=2_000,
    eval_every=50,
    # AdamW takes some three quarters of the steps.
    target=4.0,
    period=200,
    metric=replace(VALIDATION_LOSS, name="validation loss (nats a token)"),
    needs_data_root=True,
    held_out=True,
)
