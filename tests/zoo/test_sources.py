"""Entries at addresses, and in folders."""

from __future__ import annotations

import pytest
from misbehaving_server import failing, redirecting, serving, well

from ninokit import nowcasters, zoo
from ninokit.errors import ZooError
from ninokit.zoo.sources import resolve

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def address(server, written):
    """A web server with a whole entry."""
    for path in written.iterdir():
        server.offer(f"/entries/one/{path.name}", path.read_bytes())
    return f"{server.url}/entries/one"


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_entry_at_an_address(server, address, slash):
    assert nowcasters.load(address + slash).context == 3
    assert [path for path, _ in server.requests] == ["/entries/one/card.yaml", "/entries/one/weights.safetensors"]
    nowcasters.load(address)
    assert [path for path, _ in server.requests[2:]] == ["/entries/one/card.yaml"]


def test_the_card_alone(server, address):
    assert zoo.info(address).name == "wnn_h8.test"
    assert len(server.requests) == 1


def test_offline_it_is_what_it_was(server, address, monkeypatch):
    nowcasters.load(address)
    monkeypatch.setenv("NINOKIT_OFFLINE", "1")
    count = len(server.requests)
    nowcasters.load(address)
    assert len(server.requests) == count
    with pytest.raises(ZooError) as caught:
        resolve(f"{server.url}/entries/two")
    assert str(caught.value) == (
        f"{server.url}/entries/two: its card has never been fetched, and NINOKIT_OFFLINE forbids the network"
    )


def test_a_server_that_is_down_for_a_while(server, address, caplog):
    card = zoo.info(address)
    server.behaviours["/entries/one/card.yaml"] = [failing(503)]
    assert zoo.info(address) == card
    assert caplog.messages == [
        f"{address}/card.yaml: the server answered 503 Service Unavailable; try again later; the card from before is "
        f"used"
    ]


def test_a_card_that_has_become_malformed_is_an_error(server, address):
    zoo.info(address)
    server.offer("/entries/one/card.yaml", b"name: 1")
    with pytest.raises(ZooError, match=rf"^{address}/card\.yaml: name: expected a valid string, got 1; "):
        zoo.info(address)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "is not YAML: "),
        (b"created: 2026-13-45", "is not YAML: "),
        (b"[" * 5000, "is not YAML: "),
        (b"<html></html>", "expected the fields of a card, got str"),
    ],
)
def test_what_is_no_card(server, content, message):
    server.offer("/card.yaml", content)
    with pytest.raises(ZooError) as caught:
        zoo.info(server.url)
    assert str(caught.value).startswith(f"{server.url}/card.yaml: {message}")


def test_a_card_that_leads_to_another_host(server, written):
    with serving() as other:
        other.offer("/card.yaml", (written / "card.yaml").read_bytes())
        server.offer("/card.yaml", b"", redirecting(f"{other.url}/card.yaml"), well)
        with pytest.raises(ZooError, match="leads to another host"):
            zoo.info(server.url)
        assert other.requests == []


def test_an_address_without_encryption():
    with pytest.raises(ZooError) as caught:
        zoo.info("http://example.org/entry")
    assert str(caught.value) == (
        "http://example.org/entry/card.yaml: expected an address that begins with https:// (http:// only on this "
        "machine)"
    )


def test_a_folder(written, monkeypatch):
    monkeypatch.setenv("HOME", str(written.parent))
    assert resolve("local-dir:~/written").card.name == "wnn_h8.test"
    with pytest.raises(ZooError, match=r"^/nowhere/card\.yaml: can't be read \(No such file or directory\)"):
        resolve("local-dir:/nowhere")
