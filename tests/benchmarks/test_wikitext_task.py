"""WikiText-2 from small files made here."""

from __future__ import annotations

import gzip
import sys

import pytest
import torch

from ninokit.benchmarks.tasks.wikitext import WIKITEXT2_GPT2
from ninokit.errors import DatasetError, DependencyError

pytest.importorskip("tokenizers")

TRAIN = " = A Title = \n \n the quick brown fox jumps over the lazy dog , and 3 @.@ 5 <unk> more \n" * 40
VALID = " \n = Another = \n 戦場 the lazy fox jumps ; nothing else happens here at all , says the dog . \n" * 90


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "wikitext-2"
    folder.mkdir()
    (folder / "wiki.train.tokens.gz").write_bytes(gzip.compress(TRAIN.encode()))
    (folder / "wiki.valid.tokens").write_text(VALID, encoding="utf-8")
    return tmp_path


def test_tokens_are_labelled_with_those_that_follow(root):
    data = WIKITEXT2_GPT2.load_data(root)
    for inputs, labels in ((data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)):
        assert inputs.shape == labels.shape
        assert inputs.shape[1] == 64
        assert torch.equal(inputs[:, 1:], labels[:, :-1])
        assert torch.equal(inputs[1:, 0], labels[:-1, -1])
    assert data.train_inputs.max() < 2048


def test_every_byte_of_a_text_is_a_token_or_a_part_of_one(root):
    """With a training text in which no pair occurs twice, tokens are bytes; the first 256 stand for all of them."""
    (root / "wikitext-2" / "wiki.train.tokens.gz").unlink()
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&()*+,-./:;<=>?@[]^_{|}~"
    (root / "wikitext-2" / "wiki.train.tokens").write_text(letters)
    data = WIKITEXT2_GPT2.load_data(root)
    tokens = torch.cat([data.test_inputs.flatten(), data.test_labels[-1, -1:]])
    assert tokens.max() < 256
    whole = min(len(VALID.encode()) - 1, 500 * 64) // 64 * 64
    assert data.test_inputs.numel() == whole
    counts = torch.bincount(data.test_inputs.flatten(), minlength=256)
    expected = torch.bincount(torch.tensor(list(VALID.encode()[:whole])), minlength=256)
    assert sorted(counts.tolist()) == sorted(expected.tolist())


def test_pieces_come_from_the_training_text_alone_and_are_the_same_every_time(root):
    first = WIKITEXT2_GPT2.load_data(root)
    (root / "wikitext-2" / "wiki.valid.tokens").write_text("zebra zebra zebra zebra \n" * 60)
    second = WIKITEXT2_GPT2.load_data(root)
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert not torch.equal(first.test_inputs[0], second.test_inputs[0])


def test_of_the_validation_text_the_first_500_sequences(root):
    (root / "wikitext-2" / "wiki.valid.tokens").write_text(VALID * 100, encoding="utf-8")
    assert len(WIKITEXT2_GPT2.load_data(root).test_inputs) == 500


def test_a_missing_file_is_named(root):
    (root / "wikitext-2" / "wiki.valid.tokens").unlink()
    with pytest.raises(DatasetError) as caught:
        WIKITEXT2_GPT2.load_data(root)
    assert str(caught.value) == (
        f"task 'wikitext2_gpt2': {root / 'wikitext-2' / 'wiki.valid.tokens'} is missing. Expected the valid text of "
        "WikiText-2 there, packed (.gz) or unpacked. Put it there, or set data_root to the folder of "
        "wikitext-2/wiki.valid.tokens"
    )


def test_a_text_that_is_not_utf_8(root):
    (root / "wikitext-2" / "wiki.valid.tokens").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match=r"^task 'wikitext2_gpt2': .*wiki\.valid\.tokens is not UTF-8: .*Fetch the"):
        WIKITEXT2_GPT2.load_data(root)


def test_a_text_that_is_too_short(root):
    (root / "wikitext-2" / "wiki.valid.tokens").write_text("the dog")
    with pytest.raises(DatasetError, match=r"a text of WikiText-2 has 2 tokens; expected more than 64, and some mill"):
        WIKITEXT2_GPT2.load_data(root)


def test_a_missing_package(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DependencyError, match=r"^task 'wikitext2_gpt2' needs the package 'tokenizers'"):
        WIKITEXT2_GPT2.load_data(root)
