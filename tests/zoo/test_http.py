"""Transfers from a server that misbehaves."""

from __future__ import annotations

import re

import pytest
from misbehaving_server import (
    breaking_after,
    endless,
    failing,
    redirecting,
    serving,
    truncated,
    well,
    with_another_range,
    without_ranges,
)

from ninokit.errors import ZooError
from ninokit.zoo.http import download, get_text

CONTENT = bytes(range(256)) * 1000
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.part"


def test_a_file(server, path):
    download(server.offer("/file", CONTENT), path, len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.ranges("/file") == [None]


def test_interrupted_it_goes_on_where_it_was(server, path):
    url = server.offer("/file", CONTENT, breaking_after(100_000), breaking_after(70_000), well)
    download(url, path, len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=65536-", "bytes=131072-"]  # whole pieces of 64 KiB


def test_what_an_earlier_run_has_left_is_continued(server, path):
    path.write_bytes(CONTENT[:777])
    download(server.offer("/file", CONTENT), path, len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.ranges("/file") == ["bytes=777-"]


def test_a_server_that_knows_no_ranges(server, path):
    path.write_bytes(b"x" * 777)
    download(server.offer("/file", CONTENT, without_ranges), path, len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_range_that_was_not_asked_for(server, path):
    path.write_bytes(CONTENT[:777])
    url = server.offer("/file", CONTENT, with_another_range)
    with pytest.raises(ZooError) as caught:
        download(url, path, len(CONTENT))
    assert str(caught.value) == f"{url}: expected bytes from 777 on, got the range 'bytes 0-255999/256000'"
    assert path.read_bytes() == CONTENT[:777]


def test_what_is_longer_than_it_should_be_is_started_anew(server, path):
    path.write_bytes(CONTENT + b"x")
    download(server.offer("/file", CONTENT), path, len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_what_is_there_is_not_fetched(server, path):
    path.write_bytes(CONTENT)
    download(server.offer("/file", CONTENT), path, len(CONTENT))
    assert server.requests == []


def test_a_server_that_never_gets_further(server, path):
    url = server.offer("/file", CONTENT, breaking_after(2**16), breaking_after(0))
    with pytest.raises(ZooError) as caught:
        download(url, path, len(CONTENT))
    assert re.fullmatch(rf"{url}: the connection broke \(\w+\), in 4 tries; try again later", str(caught.value))
    assert path.read_bytes() == CONTENT[: 2**16]
    assert len(server.requests) == 5


def test_a_file_that_ends_early(server, path):
    url = server.offer("/file", CONTENT, truncated)
    with pytest.raises(ZooError) as caught:
        download(url, path, len(CONTENT))
    assert str(caught.value) == (
        f"{url}: the connection ended after 128000 of 256000 bytes, in 4 tries; try again later"
    )


def test_more_than_was_said(server, path):
    url = server.offer("/file", CONTENT, endless)
    with pytest.raises(ZooError) as caught:
        download(url, path, len(CONTENT))
    assert str(caught.value) == f"{url}: expected 256000 bytes at most, the server sends more"
    assert not path.exists()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_recovers(server, path, status):
    download(server.offer("/file", CONTENT, failing(status), failing(status), well), path, len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_server_that_does_not_recover(server, path):
    url = server.offer("/file", CONTENT, failing(503))
    with pytest.raises(ZooError) as caught:
        download(url, path, len(CONTENT))
    assert str(caught.value) == f"{url}: the server answered 503 Service Unavailable, in 4 tries; try again later"
    assert len(server.requests) == 4


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (204, "No Content")])
def test_no_file(server, path, status, reason):
    url = server.offer("/file", CONTENT, failing(status))
    with pytest.raises(ZooError) as caught:
        download(url, path, len(CONTENT))
    assert str(caught.value) == f"{url}: expected a file, the server answered {status} {reason}"
    assert len(server.requests) == 1
    assert not path.exists()


def test_nobody_answers(path):
    with serving() as gone:
        url = f"{gone.url}/file"
    with pytest.raises(ZooError, match=r"/file: no answer \(.*Connection refused.*\), in 4 tries; try again later$"):
        download(url, path, 10)


def test_a_redirect_on_the_same_host(server, path):
    url = server.offer("/file", b"", redirecting("/moved"))
    server.offer("/moved", CONTENT)
    download(url, path, len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_redirect_to_another_host(server, path):
    with serving() as other:
        other.offer("/file", CONTENT)
        url = server.offer("/file", CONTENT, redirecting(f"{other.url}/file"))
        with pytest.raises(ZooError) as caught:
            download(url, path, len(CONTENT))
        assert str(caught.value) == (
            f"{url}: leads to another host, {other.url}; if you trust that one, make it the mirror with "
            f"NINOKIT_ZOO_MIRROR"
        )
        assert other.requests == []
    assert not path.exists()


def test_redirects_in_a_circle(server, path):
    url = server.offer("/file", CONTENT, redirecting("/file"))
    with pytest.raises(ZooError, match=r"/file: more than 5 redirects$"):
        download(url, path, len(CONTENT))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/file",
        "http://localhost.example.org/file",
        "http://127.0.0.1@example.org/file",
        "ftp://example.org/file",
        "file:///etc/passwd",
        "https:///file",
    ],
)
def test_addresses_that_are_not_allowed(path, url):
    with pytest.raises(ZooError) as caught:
        download(url, path, 1)
    assert str(caught.value) == (f"{url}: expected an address that begins with https:// (http:// only on this machine)")


def test_a_text(server):
    assert get_text(server.offer("/text", "naïve".encode()), 100) == "naïve"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a" * 101, "expected 100 bytes at most, the server sends more"),
        (b"\xff\xfe", "expected a text in UTF-8, got other bytes"),
    ],
)
def test_a_text_that_is_none(server, content, message):
    url = server.offer("/text", content)
    with pytest.raises(ZooError) as caught:
        get_text(url, 100)
    assert str(caught.value) == f"{url}: {message}"


def test_a_text_of_a_server_that_fails(server):
    url = server.offer("/text", b"", failing(500))
    with pytest.raises(ZooError) as caught:
        get_text(url, 100)
    assert str(caught.value) == f"{url}: the server answered 500 Internal Server Error; try again later"
