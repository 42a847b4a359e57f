"""Entries: written, read, and refused without harm."""

from __future__ import annotations

import hashlib
import os
import re

import pytest
import torch
from hand_made_cards import make_card
from safetensors.torch import save_file

from ninokit import plugins
from ninokit.builtin import zoo as builtin
from ninokit.errors import CheckpointError, ZooError
from ninokit.hookspecs import hookimpl
from ninokit.nowcasters import LineFit, Nino, Wnn
from ninokit.plugins import Registry
from ninokit.zoo import Entry, read_entry, write_entry
from ninokit.zoo.card import read_card, write_card


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("nowcaster", "family", "arguments"),
    [
        (Wnn(8, 3, 7), "wnn", {"hidden": 8, "context": 3, "max_horizon": 7}),
        (Nino(4, 3, 7, layers=1), "nino", {"hidden": 4, "context": 3, "max_horizon": 7, "layers": 1}),
    ],
)
def test_written_and_read_it_is_the_same(tmp_path, nowcaster, family, arguments):
    folder = tmp_path / "deep" / "entry"
    written = write_entry(folder, nowcaster, make_card(family=family, arguments=arguments))
    again = read_entry(folder)
    assert type(again) is type(nowcaster)
    assert same(again, nowcaster)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    data = (folder / "weights.safetensors").read_bytes()
    assert written == read_card(folder / "card.yaml")
    assert (written.weights.sha256, written.weights.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert sorted(path.name for path in folder.iterdir()) == ["card.yaml", "weights.safetensors"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_read_under_another_default_dtype_it_is_the_same(tmp_path, wnn, card, default):
    write_entry(tmp_path / "entry", wnn, card)
    torch.set_default_dtype(default)
    try:
        again = read_entry(tmp_path / "entry")
        assert torch.get_default_dtype() == default
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(again, wnn)


def test_read_under_another_default_device_it_is_the_same(tmp_path, wnn, card):
    write_entry(tmp_path / "entry", wnn, card)
    with torch.device("meta"):
        again = read_entry(tmp_path / "entry")
    assert same(again, wnn)


def test_reading_draws_no_random_number(tmp_path, wnn, card):
    write_entry(tmp_path / "entry", wnn, card)
    before = torch.get_rng_state()
    read_entry(tmp_path / "entry")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_written_nowcaster_stays_as_it_was(tmp_path, wnn, card):
    write_entry(tmp_path / "entry", wnn.train(), card)
    assert wnn.training
    assert all(parameter.requires_grad for parameter in wnn.parameters())


def test_a_folder_that_exists_is_left_alone(tmp_path, wnn, card):
    with pytest.raises(ZooError) as caught:
        write_entry(tmp_path, wnn, card)
    assert str(caught.value) == f"{tmp_path}: exists already; remove it, or choose another folder"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "nino"}, "family: 'nino' is Nino, got a Wnn"),
        ({"context": 4}, "context: the nowcaster has 3, the card says 4"),
        ({"max_horizon": 8}, "max_horizon: the nowcaster has 7, the card says 8"),
        (
            {"arguments": {"width": 8}},
            "arguments: wnn can't be built with {'width': 8}: TypeError: Wnn.__init__() got an unexpected keyword "
            "argument 'width'",
        ),
    ],
)
def test_a_card_that_does_not_fit_writes_nothing(tmp_path, wnn, changes, message):
    with pytest.raises(ZooError) as caught:
        write_entry(tmp_path / "entry", wnn, make_card(**changes))
    assert str(caught.value) == f"card of wnn_h8.test: {message}"
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_card_does_not_describe_write_nothing(tmp_path, card):
    with pytest.raises(CheckpointError, match=r"kind_embedding\.weight: expected shape \(15, 8\), got \(15, 16\)$"):
        write_entry(tmp_path / "entry", Wnn(16, 3, 7), card)
    assert list(tmp_path.iterdir()) == []


def test_a_family_without_weights(tmp_path):
    with pytest.raises(ZooError, match=r"family: 'linefit' has no weights to store; use it by its name$"):
        write_entry(tmp_path / "entry", LineFit(3, 7), make_card(family="linefit", arguments={}))


def test_a_family_that_is_not_installed(tmp_path, wnn):
    with pytest.raises(ZooError) as caught:
        write_entry(tmp_path / "entry", wnn, make_card(family="siren"))
    assert re.match(r"card of wnn_h8\.test: family: expected one of \[.*'linefit', ", str(caught.value))
    assert str(caught.value).endswith(", got 'siren'; install the plugin that brings it")


def test_a_disk_that_fails_leaves_nothing(tmp_path, wnn, card, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("ninokit.zoo.entry.write_card", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_entry(tmp_path / "entry", wnn, card)
    assert list(tmp_path.iterdir()) == []


class TestReading:
    @pytest.fixture
    def folder(self, tmp_path, wnn, card):
        write_entry(tmp_path / "entry", wnn, card)
        return tmp_path / "entry"

    def rewrite(self, folder, state):
        """Other weights, with their right hash on the card."""
        path = folder / "weights.safetensors"
        save_file(state, path)
        self.rehash(folder)

    def rehash(self, folder):
        data = (folder / "weights.safetensors").read_bytes()
        card = read_card(folder / "card.yaml")
        update = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        write_card(card.model_copy(update={"weights": card.weights.model_copy(update=update)}), folder / "card.yaml")

    def test_every_flipped_byte_is_found(self, folder):
        path = folder / "weights.safetensors"
        data = bytearray(path.read_bytes())
        for place in (0, 8, 20, len(data) // 2, len(data) - 1):
            data[place] ^= 1
            path.write_bytes(data)
            with pytest.raises(CheckpointError, match=r"expected sha256 .*, got .*; the file is damaged"):
                read_entry(folder)
            data[place] ^= 1
        path.write_bytes(data)
        read_entry(folder)

    def test_a_file_that_is_no_safetensors(self, folder):
        (folder / "weights.safetensors").write_bytes(b"PK\x03\x04 not that")
        self.rehash(folder)
        with pytest.raises(CheckpointError, match=r"weights\.safetensors: is no safetensors file \("):
            read_entry(folder)

    @pytest.mark.parametrize(
        ("name", "tensor", "message"),
        [
            ("readout.6.bias", None, "the tensor 'readout.6.bias' is missing"),
            ("readout.6.bias", torch.zeros(8), "readout.6.bias: expected shape (7,), got (8,)"),
            (
                "readout.6.bias",
                torch.zeros(7, dtype=torch.float64),
                "readout.6.bias: expected torch.float32, got torch.float64",
            ),
            (
                "towers.bias",
                torch.zeros(7),
                "nothing reads the tensor 'towers.bias'; this is a model of another form",
            ),
        ],
    )
    def test_weights_of_another_form(self, folder, wnn, name, tensor, message):
        state = wnn.state_dict()
        state.pop(name, None)
        if tensor is not None:
            state[name] = tensor
        self.rewrite(folder, state)
        with pytest.raises(CheckpointError) as caught:
            read_entry(folder)
        assert str(caught.value) == f"{folder / 'weights.safetensors'}: {message}"

    def test_no_weights(self, folder):
        (folder / "weights.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"weights\.safetensors: can't be read \(No such file"):
            read_entry(folder)

    def test_a_card_without_weights(self, folder, card):
        write_card(card, folder / "card.yaml")
        with pytest.raises(ZooError, match=r"card\.yaml: weights: this field is missing$"):
            read_entry(folder)


class TestRegistry:
    def plugin(self, *folders):
        return type("Plugin", (), {"ninokit_zoo": staticmethod(hookimpl(lambda: list(folders)))})()

    def test_entries_of_plugins(self, tmp_path, wnn, card):
        write_entry(tmp_path / "a", wnn, card)
        registry = Registry(strict=True)
        registry.register(self.plugin(tmp_path / "a"), "theirs")
        assert registry.zoo() == {"wnn_h8.test": Entry.open(tmp_path / "a")}

    def test_a_broken_card_is_warned_of(self, tmp_path, caplog):
        registry = Registry()
        registry.register(self.plugin(tmp_path), "theirs")
        assert registry.zoo() == {}
        assert caplog.messages == [
            f"left out: ninokit_zoo of plugin 'theirs', registered by hand: {tmp_path / 'card.yaml'}: can't be read "
            f"(No such file or directory); an entry of the zoo has a card.yaml"
        ]

    def test_builtin_entries_come_through_the_public_door(self):
        assert set(builtin.ninokit_zoo()) <= {entry.folder for entry in plugins.registry().zoo().values()}

    def test_installed_entries_come_before_those_of_the_repository(self, tmp_path, wnn, card, monkeypatch):
        write_entry(tmp_path / "installed" / "one", wnn, card)
        write_entry(tmp_path / "repository" / "two", wnn, card)
        monkeypatch.setattr(builtin, "_IN_REPOSITORY", tmp_path / "repository")
        monkeypatch.setattr(builtin, "_INSTALLED", tmp_path / "missing")
        assert builtin.ninokit_zoo() == [tmp_path / "repository" / "two"]
        monkeypatch.setattr(builtin, "_INSTALLED", tmp_path / "installed")
        assert builtin.ninokit_zoo() == [tmp_path / "installed" / "one"]
