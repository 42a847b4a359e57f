"""Entries on the hub, through huggingface_hub and a hub on this machine."""

from __future__ import annotations

import sys

import pytest
from stub_hub import serving_hub

from ninokit import zoo
from ninokit.cli import main
from ninokit.errors import DependencyError, ZooError
from ninokit.zoo import Entry, hub


@pytest.fixture
def stub():
    with serving_hub() as running:
        yield running


@pytest.fixture
def run(stub, cache, tmp_path, monkeypatch, capsys, _logging_as_before):
    """Run the command line against the hub; huggingface_hub has read its environment long ago."""
    constants = pytest.importorskip("huggingface_hub.constants")
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, stub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", stub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["zoo", *arguments])
        return code, *capsys.readouterr()

    return command


def upload(stub, written, name="someone/nowcaster", revision="main"):
    files = {path.name: path.read_bytes() for path in written.iterdir()}
    stub.repositories.setdefault(name, {})[revision] = files


def test_an_entry_is_fetched_and_serves_offline(stub, run, written, monkeypatch):
    upload(stub, written)
    code, out, _ = run("verify", "hf-hub:someone/nowcaster")  # the hub may show a bar of its own
    assert code == 0
    assert out.startswith("hf-hub:someone/nowcaster: sound, ")
    assert any("card.yaml" in request for request in stub.requests)
    count = len(stub.requests)
    for variable in ("NINOKIT_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert run("verify", "hf-hub:someone/nowcaster")[0] == 0
    assert len(stub.requests) == count


def test_what_is_no_weights_of_the_card_is_not_fetched(stub, run, written):
    upload(stub, written)
    stub.repositories["someone/nowcaster"]["main"]["model-00001-of-00002.safetensors"] = b"x" * 1000
    assert run("info", "hf-hub:someone/nowcaster")[1].startswith("# wnn_h8.test\n")
    assert not any(".safetensors" in request for request in stub.requests)
    assert run("verify", "hf-hub:someone/nowcaster")[0] == 0
    fetched = {request.rpartition("/")[2] for request in stub.requests if request.startswith("GET /someone/")}
    assert fetched == {"card.yaml", "weights.safetensors"}


def test_a_revision(stub, run, written):
    upload(stub, written, revision="v2")
    assert run("info", "hf-hub:someone/nowcaster@v2")[1].startswith("# wnn_h8.test\n")
    assert run("info", "hf-hub:someone/nowcaster@v3")[0] == 2


@pytest.mark.parametrize(
    ("offline", "reason"), [("0", "RepositoryNotFoundError: "), ("1", "LocalEntryNotFoundError: ")]
)
def test_a_repository_that_is_not_there(run, monkeypatch, offline, reason):
    monkeypatch.setenv("NINOKIT_OFFLINE", offline)
    code, _, err = run("info", "hf-hub:someone/nothing")
    assert code == 2
    assert err.startswith(f"ninokit: hf-hub:someone/nothing: {reason}")


def test_a_repository_without_a_card(stub, run):
    stub.repositories["someone/nowcaster"] = {"main": {"model.safetensors": b"x"}}
    code, _, err = run("info", "hf-hub:someone/nowcaster")
    assert code == 2
    assert "card.yaml: can't be read (No such file or directory)" in err


def test_pushed_it_can_be_fetched(stub, run, written):
    address = f"{stub.url}/someone/new/commit/{stub.commit('main')}"
    assert run("push", f"local-dir:{written}", "someone/new") == (0, f"Pushed to {address}\n", "")
    files = stub.repositories["someone/new"]["main"]
    assert files["weights.safetensors"] == (written / "weights.safetensors").read_bytes()
    assert files["card.yaml"] == (written / "card.yaml").read_bytes()
    assert files["README.md"].decode().startswith("---\nlicense: mit\nlibrary_name: ninokit\n")
    assert run("verify", "hf-hub:someone/new")[0] == 0


def test_pushed_to_a_branch(stub, run, written):
    assert run("push", f"local-dir:{written}", "someone/new@v1")[0] == 0
    assert sorted(stub.repositories["someone/new"]["v1"]) == ["README.md", "card.yaml", "weights.safetensors"]
    assert stub.repositories["someone/new"]["main"] == {}


@pytest.mark.parametrize("source", ["hf-hub:nowcaster", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:../x"])
def test_names_that_are_none(source):
    with pytest.raises(ZooError) as caught:
        zoo.info(source)
    name = source.removeprefix("hf-hub:")
    assert str(caught.value) == f"hub: expected owner/name or owner/name@revision, got {name!r}"


def test_without_the_library(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"^hf-hub:a/b needs the package 'huggingface_hub'.*ninokit\[hub\]"):
        zoo.info("hf-hub:a/b")
    with pytest.raises(DependencyError, match=r"^push to a/b needs the package"):
        hub.push_entry(Entry.open(written), "a/b")
