"""The cache: filled once, by one process, with what the card says, or not at all."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hand_made_cards import make_card
from misbehaving_server import endless, failing, redirecting, tampered, truncated, well

from ninokit import zoo
from ninokit.errors import ZooError
from ninokit.nowcasters import Nino, Wnn
from ninokit.nowcasters.published import PublishedNino, to_published
from ninokit.zoo import Entry, WeightsFile
from ninokit.zoo.cache import cached_folder, complete, whereabouts
from ninokit.zoo.card import write_card
from ninokit.zoo.settings import cache_folder


def files(folder: Path) -> list[str]:
    """All but the locks, which stay."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != "locks")


@pytest.fixture
def content(written):
    return (written / "weights.safetensors").read_bytes()


@pytest.fixture
def entry(server, fetched, content):
    """To be fetched from a server that behaves."""
    return fetched(server.offer("/w", content))


def test_fetched_once_and_kept(cache, server, entry, wnn):
    assert whereabouts(entry) == "to fetch"
    kept = complete(entry)
    assert whereabouts(entry) == "cached"
    assert complete(entry) == kept
    assert server.requests == [("/w", None)]
    assert kept.card == entry.card
    name = f"wnn_h8.test-{entry.weights.sha256[:16]}"
    assert files(cache) == [f"entries/{name}/card.yaml", f"entries/{name}/weights.safetensors"]
    again = zoo.load(f"local-dir:{entry.folder}")
    assert torch.equal(again.state_dict()["readout.6.bias"], wnn.state_dict()["readout.6.bias"])


def test_a_card_that_has_been_corrected(cache, server, entry, wnn):
    complete(entry)
    corrected = entry.card.model_copy(update={"description": "no longer so small"})
    write_card(corrected, entry.folder / "card.yaml")
    kept = complete(Entry.open(entry.folder))
    assert kept.card == corrected
    assert len(server.requests) == 1


def test_what_lies_beside_its_card_is_left_where_it_is(cache, written):
    entry = Entry.open(written)
    assert complete(entry) is entry
    assert whereabouts(entry) == "here"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (tampered, r"{url}: expected sha256 {sha256}, got {tampered}; the file is damaged, altered, or another one: "),
        (endless, r"{url}: expected {size} bytes at most, the server sends more"),
        (failing(404), r"{url}: expected a file, the server answered 404 Not Found"),
        (redirecting("http://localhost:1/w"), r"{url}: leads to another host, http://localhost:1; if you trust"),
    ],
)
def test_a_fault_leaves_the_cache_clean(cache, server, fetched, content, behaviour, message):
    entry = fetched(server.offer("/w", content, behaviour))
    with pytest.raises(ZooError) as caught:
        complete(entry)
    altered = hashlib.sha256(bytes([content[0] ^ 1]) + content[1:]).hexdigest()
    expected = message.format(url=f"{server.url}/w", sha256=entry.weights.sha256, tampered=altered, size=len(content))
    assert str(caught.value).startswith(f"wnn_h8.test: the weights weights.safetensors can't be had: {expected}")
    assert files(cache) == []
    # The same card is served once the server behaves.
    server.behaviours["/w"] = [well]
    complete(entry)


def test_a_truncated_file_is_continued_the_next_time(cache, server, fetched, content):
    entry = fetched(server.offer("/w", content, truncated))
    with pytest.raises(ZooError, match="the connection ended after"):
        complete(entry)
    assert files(cache) == [f"downloads/{entry.weights.sha256}.part"]
    server.behaviours["/w"] = [well]
    complete(entry)
    assert server.ranges("/w")[-1] == f"bytes={len(content) // 2}-"
    assert not [name for name in files(cache) if name.startswith("downloads")]


def test_wrong_bytes_of_an_earlier_download_are_fetched_again(cache, server, entry, content):
    part = cache / "downloads" / f"{entry.weights.sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(content) // 3))
    complete(entry)
    assert server.ranges("/w") == [f"bytes={len(content) // 3}-", None]


def test_wrong_bytes_of_an_earlier_download_from_a_server_that_lies(cache, server, fetched, content):
    entry = fetched(server.offer("/w", content, tampered))
    part = cache / "downloads" / f"{entry.weights.sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(100))
    with pytest.raises(ZooError, match="expected sha256"):
        complete(entry)
    assert files(cache) == []


def test_the_next_address_is_tried(cache, server, fetched, content):
    first, second = server.offer("/first", content, tampered), server.offer("/second", content)
    complete(fetched(first, second))
    assert [path for path, _ in server.requests] == ["/first", "/second"]


def test_an_entry_that_names_no_place(cache, fetched):
    with pytest.raises(ZooError) as caught:
        complete(fetched())
    assert str(caught.value) == (
        "wnn_h8.test: the weights weights.safetensors can't be had: its card names no place to fetch them from"
    )
    assert files(cache) == []


@pytest.mark.parametrize("damage", ["weights.safetensors", "card.yaml"])
def test_what_is_damaged_in_the_cache_is_fetched_again(cache, server, entry, damage, caplog):
    folder = complete(entry).folder
    (folder / damage).write_bytes(b"damaged")
    kept = complete(entry)
    zoo.read_entry(kept.folder)
    assert len(server.requests) == 2
    assert len(caplog.messages) == 2  # before the lock and under it
    assert all(message.endswith("; it is fetched again") for message in caplog.messages)


def test_what_is_damaged_in_the_cache_is_not_used_offline(cache, entry, monkeypatch):
    (complete(entry).folder / "weights.safetensors").unlink()
    monkeypatch.setenv("NINOKIT_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"NINOKIT_OFFLINE forbids the network$"):
        complete(entry)


class TestSettings:
    @pytest.mark.parametrize(
        ("environment", "folder"),
        [
            ({"NINOKIT_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
            ({"NINOKIT_CACHE": "~/a"}, "/home/me/a"),
            ({"NINOKIT_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/ninokit"),
            ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/ninokit"),
            ({}, "/home/me/.cache/ninokit"),
        ],
    )
    def test_the_folder(self, monkeypatch, environment, folder):
        for name in ("NINOKIT_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOME": "/home/me", **environment}.items():
            monkeypatch.setenv(name, value)
        assert cache_folder() == Path(folder)

    @pytest.mark.parametrize("name", ["NINOKIT_OFFLINE", "HF_HUB_OFFLINE"])
    @pytest.mark.parametrize("value", ["1", "on", "Yes", "TRUE"])
    def test_offline(self, cache, server, entry, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        with pytest.raises(ZooError) as caught:
            complete(entry)
        assert str(caught.value) == (
            f"wnn_h8.test: the weights weights.safetensors can't be had: {name} forbids the network"
        )
        assert server.requests == []

    @pytest.mark.parametrize("value", ["", "0", "no", "off"])
    def test_not_offline(self, cache, entry, monkeypatch, value):
        monkeypatch.setenv("NINOKIT_OFFLINE", value)
        complete(entry)

    def test_what_is_cached_needs_no_network(self, cache, server, entry, monkeypatch):
        complete(entry)
        monkeypatch.setenv("NINOKIT_OFFLINE", "1")
        complete(entry)
        assert len(server.requests) == 1


class TestMirror:
    def test_a_folder_serves_offline(self, cache, fetched, written, monkeypatch):
        monkeypatch.setenv("NINOKIT_ZOO_MIRROR", str(written))
        monkeypatch.setenv("NINOKIT_OFFLINE", "1")
        complete(fetched("https://example.org/w"))

    def test_the_beginning_of_a_url_is_asked_first(self, cache, server, fetched, content, monkeypatch):
        server.offer("/mirror/weights.safetensors", content)
        monkeypatch.setenv("NINOKIT_ZOO_MIRROR", f"{server.url}/mirror/")
        complete(fetched(server.offer("/w", content)))
        assert server.requests == [("/mirror/weights.safetensors", None)]

    def test_what_a_mirror_lacks_comes_from_the_card(self, cache, server, entry, tmp_path, monkeypatch):
        monkeypatch.setenv("NINOKIT_ZOO_MIRROR", str(tmp_path / "nothing"))
        complete(entry)
        assert server.requests == [("/w", None)]

    def test_a_mirror_that_is_not_trusted_blindly(self, cache, fetched, content, tmp_path, monkeypatch):
        (tmp_path / "weights.safetensors").write_bytes(content[:-1] + b"x")
        monkeypatch.setenv("NINOKIT_ZOO_MIRROR", str(tmp_path))
        with pytest.raises(ZooError, match=rf"{tmp_path}/weights\.safetensors: expected sha256"):
            complete(fetched())
        assert files(cache) == []

    def test_a_mirror_without_encryption(self, cache, fetched, monkeypatch):
        monkeypatch.setenv("NINOKIT_ZOO_MIRROR", "http://example.org")
        with pytest.raises(ZooError, match="expected an address that begins with https://"):
            complete(fetched())


class TestPublishedForm:
    """Checkpoints in the published form are converted once."""

    @pytest.fixture
    def nowcaster(self):
        return PublishedNino(4, 3, 7, layers=1)

    @pytest.fixture
    def entry(self, tmp_path, server, nowcaster):
        torch.save(to_published(nowcaster), tmp_path / "model.pt")
        data = (tmp_path / "model.pt").read_bytes()
        weights = WeightsFile(
            file="model.pt",
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            urls=[server.offer("/model.pt", data)],
        )
        arguments = {"hidden": 4, "context": 3, "max_horizon": 7, "layers": 1}
        card = make_card(family="published_nino", arguments=arguments, weights=weights, positions=8)
        (tmp_path / "published").mkdir()
        write_card(card, tmp_path / "published" / "card.yaml")
        return Entry.open(tmp_path / "published")

    def test_it_becomes_safetensors(self, cache, entry, nowcaster, monkeypatch):
        kept = complete(entry)
        assert kept.weights.file == "weights.safetensors"
        assert [name.rpartition("/")[2] for name in files(cache)] == ["card.yaml", "weights.safetensors"]
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the .pt was read again"))
        again = zoo.load(f"local-dir:{entry.folder}")
        assert type(again) is PublishedNino
        state = again.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in nowcaster.state_dict().items())

    def test_nothing_is_read_before_its_hash_is_checked(self, cache, server, entry, monkeypatch):
        server.behaviours["/model.pt"] = [tampered]
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
        with pytest.raises(ZooError, match="expected sha256"):
            complete(entry)
        assert files(cache) == []

    def test_a_card_that_describes_another_model(self, cache, entry):
        other = entry.card.model_copy(update={"family": "nino"})
        write_card(other, entry.folder / "card.yaml")
        with pytest.raises(ZooError, match="family: 'nino' is Nino, got a PublishedNino"):
            complete(Entry.open(entry.folder))
        assert files(cache) == []

    def test_beside_its_card(self, cache, server, entry, tmp_path):
        shutil.copy(tmp_path / "model.pt", entry.folder)
        assert isinstance(zoo.load(f"local-dir:{entry.folder}"), Nino)
        assert server.requests == []


class TestFullDisk:
    def test_while_it_is_fetched(self, cache, server, entry):
        """The kernel's own answer: /dev/full takes no byte."""
        part = cache / "downloads" / f"{entry.weights.sha256}.part"
        part.parent.mkdir(parents=True)
        part.symlink_to("/dev/full")
        with pytest.raises(ZooError) as caught:
            complete(entry)
        assert str(caught.value) == (
            f"wnn_h8.test: the cache {cache} can't be written (No space left on device); make room there, or name "
            f"another folder by NINOKIT_CACHE"
        )
        assert list((cache / "downloads").iterdir()) == []
        complete(entry)

    def test_while_it_is_stored(self, cache, entry, monkeypatch):
        def full(_source: Path, target: Path) -> None:
            Path(target).write_bytes(b"a first piece")
            with Path("/dev/full").open("wb", buffering=0) as device:
                device.write(b"the rest")

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfile", full)
            with pytest.raises(ZooError, match="No space left on device"):
                complete(entry)
        assert files(cache) == []
        assert list((cache / "entries").iterdir()) == []
        complete(entry)

    def test_a_cache_that_is_a_file(self, cache, entry):
        cache.write_bytes(b"")
        with pytest.raises(ZooError, match=r"can't be written \(.*\); make room there, or name another folder"):
            complete(entry)


LOAD = "import sys, ninokit.zoo; print(ninokit.zoo.download(sys.argv[1]))"


def start(entry: Entry) -> subprocess.Popen[str]:
    """Another process that fetches an entry into the same cache."""
    command = [sys.executable, "-c", LOAD, f"local-dir:{entry.folder}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once(cache, server, fetched, content):
    """The server answers when both are there, or the other waits for the lock: one download serves both."""

    def slow(handler, data):
        time.sleep(0.2)
        well(handler, data)

    entry = fetched(server.offer("/w", content, slow))
    processes = [start(entry) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert {out for out, _ in outputs} == {f"{cached_folder(entry)}\n"}
    assert server.requests == [("/w", None)]
    zoo.read_entry(cached_folder(entry))
    assert len(files(cache)) == 2


def test_killed_in_the_middle_and_started_again(cache, server, tmp_path):
    """A killed process leaves neither a lock nor half an entry; what it has fetched is not fetched again."""
    arguments = {"hidden": 256, "context": 3, "max_horizon": 7}
    zoo.write_entry(tmp_path / "large", Wnn(**arguments), make_card(arguments=arguments))
    large = Entry.open(tmp_path / "large")
    content = (tmp_path / "large" / "weights.safetensors").read_bytes()
    stalled, done = threading.Event(), threading.Event()
    half = (len(content) // 2**17) * 2**16 + 1

    def stall(handler, data):
        handler.answer(200, Content_Length=len(data))
        handler.wfile.write(data[:half])
        stalled.set()
        done.wait(120)

    url = server.offer("/w", content, stall, well)
    weights = large.weights.model_copy(update={"urls": [url]})
    (tmp_path / "large" / "weights.safetensors").unlink()
    write_card(large.card.model_copy(update={"weights": weights}), tmp_path / "large" / "card.yaml")
    entry = Entry.open(tmp_path / "large")
    part = cache / "downloads" / f"{entry.weights.sha256}.part"
    process = start(entry)
    assert stalled.wait(120)
    while not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done.set()
    assert not cached_folder(entry).exists()
    stale = cached_folder(entry).parent / f".{cached_folder(entry).name}-killed"
    stale.mkdir(parents=True)
    kept = part.stat().st_size
    complete(entry)
    assert server.ranges("/w") == [None, f"bytes={kept}-"]
    assert not stale.exists()
    assert len(files(cache)) == 2
