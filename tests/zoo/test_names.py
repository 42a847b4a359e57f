"""Names of the zoo, with and without tags, and the one door that they go through."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from hand_made_cards import make_card
from torch import nn

import ninokit
from ninokit import nowcasters, zoo
from ninokit.builtin.zoo import ninokit_zoo
from ninokit.errors import CheckpointError, ZooError
from ninokit.nowcasters.published import PublishedNino
from ninokit.zoo.card import read_card
from ninokit.zoo.names import find


def test_a_pattern(offered):
    offered(*(make_card(name=name) for name in ("wnn_h8.b", "wnn_h8.a", "wnn_h16.a")))
    assert zoo.list() == ["wnn_h16.a", "wnn_h8.a", "wnn_h8.b"]
    assert zoo.list("wnn_h8.*") == ["wnn_h8.a", "wnn_h8.b"]
    assert zoo.list("wnn_h?.[!b]") == ["wnn_h8.a"]
    assert zoo.list("nino*") == []


def test_the_only_tag_is_the_default(offered):
    (entry,) = offered(make_card(name="wnn_h8.a"))
    assert find("wnn_h8") == find("wnn_h8.a") == entry


def test_the_card_says_which_tag_is_the_default(offered):
    _, second = offered(make_card(name="wnn_h8.a"), make_card(name="wnn_h8.b", default=True))
    assert find("wnn_h8") == second


@pytest.mark.parametrize("default", [True, False])
def test_several_tags_without_one_default(offered, default):
    offered(make_card(name="wnn_h8.b", default=default), make_card(name="wnn_h8.a", default=default))
    with pytest.raises(ZooError) as caught:
        find("wnn_h8")
    assert str(caught.value) == "zoo: 'wnn_h8' alone is ambiguous; give one of ['wnn_h8.a', 'wnn_h8.b']"


def test_close_names_are_suggested(offered):
    offered(make_card(name="wnn_h8.first"), make_card(name="wnn_h16.first"))
    with pytest.raises(ZooError) as caught:
        find("wnn_h8.frst")
    assert str(caught.value) == (
        "zoo: there is no 'wnn_h8.frst'. Did you mean 'wnn_h8.first'? `ninokit zoo list` shows all names"
    )
    with pytest.raises(ZooError) as caught:
        find("resnet")
    assert str(caught.value) == "zoo: there is no 'resnet'. `ninokit zoo list` shows all names"


class TestLoad:
    def test_names_with_and_without_tag(self, offered, wnn):
        offered(make_card(name="wnn_h8.a"))
        for name in ("wnn_h8", "wnn_h8.a"):
            loaded = nowcasters.load(name)
            assert torch.equal(loaded.state_dict()["readout.6.bias"], wnn.state_dict()["readout.6.bias"])

    def test_a_folder(self, written):
        assert nowcasters.load(f"local-dir:{written}").context == 3

    def test_attach_takes_a_name(self, offered):
        offered(make_card(name="wnn_h8.a"))
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters())
        nowcasting = ninokit.attach(optimizer, model, "wnn_h8", period=10, total_steps=40)
        assert isinstance(nowcasting, ninokit.Nowcasting)

    def test_the_hash_that_is_asked_for(self, offered):
        (entry,) = offered(make_card(name="wnn_h8.a"))
        nowcasters.load("wnn_h8", sha256=entry.weights.sha256.upper())
        with pytest.raises(ZooError) as caught:
            nowcasters.load("wnn_h8", sha256="0" * 64)
        assert str(caught.value) == (
            f"wnn_h8: expected weights of sha256 {'0' * 64}, its card has {entry.weights.sha256}"
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("wnn_h9", " Did you mean 'wnn_h8'?"), ("linfit", " Did you mean 'linefit'?"), ("x", "")],
    )
    def test_an_unknown_name(self, offered, name, hint):
        offered(make_card(name="wnn_h8.a"))
        with pytest.raises(CheckpointError) as caught:
            nowcasters.load(name)
        assert re.fullmatch(
            r"nowcaster: expected one of the families \[.*'linefit', .*'wnn'\], a name of the zoo, a source such as "
            rf"local-dir:FOLDER, or the path of a \.pt checkpoint; got '{name}'\.{re.escape(hint)}",
            str(caught.value),
        )

    def test_a_folder_without_its_prefix(self, written):
        with pytest.raises(CheckpointError, match=rf"got '{written}'\. Did you mean 'local-dir:{written}'\?$"):
            nowcasters.load(written)


class TestPublished:
    """The published checkpoints are entries, with the weights beside the repository as their mirror."""

    @pytest.fixture
    def weights(self, shared_folder, cache, monkeypatch):
        monkeypatch.setenv("NINOKIT_ZOO_MIRROR", str(shared_folder / "weights"))
        monkeypatch.setenv("NINOKIT_OFFLINE", "1")
        return shared_folder / "weights"

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("nino_h128.published", "nino_no_posw.pt"),
            ("wnn_h128.published", "nino_mlp.pt"),
            ("wnn_h32.published", "nino_mlp_h32.pt"),
        ],
    )
    def test_by_name_it_is_the_same_as_by_path(self, weights, name, file):
        by_name, by_path = nowcasters.load(name), nowcasters.load(weights / file)
        assert type(by_name) is type(by_path)
        state = by_path.state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in by_name.state_dict().items())
        assert by_name.state_dict().keys() == state.keys()
        assert (by_name.context, by_name.max_horizon) == (by_path.context, by_path.max_horizon) == (5, 40)

    def test_it_keeps_the_published_wiring(self, weights):
        assert isinstance(nowcasters.load("nino_h128.published", precision="bfloat16"), PublishedNino)

    def test_the_cards_know_the_files(self, weights):
        """As the publisher's list of hashes has them."""
        table = (weights / "README.md").read_text(encoding="utf-8")
        cards = [read_card(folder / "card.yaml") for folder in ninokit_zoo()]
        published = [card.weights for card in cards if card.tag == "published"]
        assert len(published) == 3
        for file in published:
            assert f"| {file.file} |" in table
            assert f"| {file.sha256} |" in table
            data = (weights / file.file).read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.size)


def test_the_positions_on_the_cards_are_those_that_a_family_reads():
    for folder in ninokit_zoo():
        card = read_card(folder / "card.yaml")
        assert card.positions == (None if card.family == "wnn" else 8)
