from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hand_made_cards import make_card
from misbehaving_server import Server, serving

from ninokit.hookspecs import hookimpl
from ninokit.nowcasters import Wnn
from ninokit.plugins import Registry
from ninokit.zoo import Card, Entry, WeightsFile, names, write_entry
from ninokit.zoo import http as transfers
from ninokit.zoo.card import read_card, write_card


@pytest.fixture
def card() -> Card:
    return make_card()


@pytest.fixture
def wnn() -> Wnn:
    return Wnn(hidden=8, context=3, max_horizon=7)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and nothing else in the environment."""
    for name in ("NINOKIT_OFFLINE", "HF_HUB_OFFLINE", "NINOKIT_ZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfers, "_PAUSE", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as script:
        yield script


@pytest.fixture
def written(tmp_path, wnn, card) -> Path:
    """A whole entry."""
    write_entry(tmp_path / "written", wnn, card)
    return tmp_path / "written"


@pytest.fixture
def fetched(tmp_path, written) -> Callable[..., Entry]:
    """The same entry without its weights, to be fetched from addresses."""

    def make(*urls: str, folder: str = "fetched", **changes: object) -> Entry:
        card = read_card(written / "card.yaml")
        assert card.weights is not None
        weights = WeightsFile.model_validate({**card.weights.model_dump(), "urls": list(urls), **changes})
        (tmp_path / folder).mkdir()
        write_card(card.model_copy(update={"weights": weights}), tmp_path / folder / "card.yaml")
        return Entry.open(tmp_path / folder)

    return make


@pytest.fixture
def offered(tmp_path, wnn, monkeypatch) -> Callable[..., list[Entry]]:
    """A zoo of these cards alone."""

    def make(*cards: Card) -> list[Entry]:
        folders = [tmp_path / "zoo" / card.name for card in cards]
        for folder, card in zip(folders, cards, strict=True):
            write_entry(folder, wnn, card)
        registry = Registry(strict=True)
        registry.register(type("Plugin", (), {"ninokit_zoo": staticmethod(hookimpl(lambda: folders))})(), "test")
        monkeypatch.setattr(names, "registry", lambda: registry)
        return [Entry.open(folder) for folder in folders]

    return make
