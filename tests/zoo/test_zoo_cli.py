"""``ninokit zoo``: what it prints, and with which exit code."""

from __future__ import annotations

import pytest
import torch
from hand_made_cards import make_card, make_measurement, make_saving

from ninokit import nowcasters, zoo
from ninokit.cli import main
from ninokit.nowcasters import Nino
from ninokit.zoo.cache import complete

pytestmark = pytest.mark.usefixtures("cache", "_logging_as_before")


@pytest.fixture
def run(capsys):
    def command(*arguments: object) -> tuple[int, str, str]:
        code = main(["zoo", *map(str, arguments)])
        return code, *capsys.readouterr()

    return command


def test_list(run, offered):
    measured = [
        make_measurement((100, 10.0, True, 60, 9.0, True)),
        make_measurement((100, 10.0, True, 60, 9.0, True), (100, 10.0, False, 50, 9.0, True)),
    ]
    offered(make_card(name="wnn_h8.a", measurements=measured), make_card(name="wnn_h8.long"))
    assert run("list") == (
        0,
        "wnn_h8.a     here      a small one\n"
        "                       digits_mlp: steps saved 40 %\n"
        "                       digits_mlp: steps saved ≥45 % (seeds: 40 %, ≥50 %)\n"
        "wnn_h8.long  here      a small one\n",
        "",
    )
    assert run("list", "*.long") == (0, "wnn_h8.long  here      a small one\n", "")


def test_list_of_what_was_measured_anew(run, offered):
    old = make_measurement((100, 10.0, True, 60, 9.0, True))
    offered(make_card(name="wnn_h8.a", savings=[make_saving()], measurements=[old]))
    assert run("list")[1] == (
        "wnn_h8.a  here      a small one\n                    steps saved against the best rival: -4 % (median of 1)\n"
    )


def test_nothing_to_list(run, offered):
    offered()
    assert run("list", "x*") == (2, "", "ninokit: zoo: no name fits 'x*'; `ninokit zoo list` shows all\n")


def test_info(run, offered):
    offered(make_card(savings=[make_saving()]))
    code, out, err = run("info", "wnn_h8")
    assert (code, err) == (0, "")
    assert out.startswith("# wnn_h8.test\n\na small one\n")
    assert "| trained by | `ninokit pretrain` |" in out
    assert "\n## Steps saved against rivals tuned alike\n" in out


def test_download(run, server, fetched, written):
    entry = fetched(server.offer("/w", (written / "weights.safetensors").read_bytes()))
    source = f"local-dir:{entry.folder}"
    assert run("download", source) == (0, f"{source}: {complete(entry).folder}\n", "")
    assert len(server.requests) == 1


def test_verify(run, offered):
    sound, broken = offered(make_card(name="wnn_h8.a"), make_card(name="wnn_h8.b"))
    weights = broken.folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, err = run("verify")
    assert code == 2
    first, second = out.splitlines()
    assert first == f"wnn_h8.a: sound, {sound.folder / 'weights.safetensors'}"
    assert second.startswith(f"wnn_h8.b: {weights}: expected sha256 {broken.weights.sha256}, got ")
    assert err == "ninokit: verify: 1 of 2 are not sound\n"
    assert run("verify", "wnn_h8.a")[0] == 0


def test_verify_passes_over_what_is_not_here(run, fetched, offered):
    offered(make_card(name="wnn_h8.a"))[0].folder.joinpath("weights.safetensors").unlink()
    assert run("verify") == (0, "", "")


def test_export_to_a_folder(run, offered, tmp_path):
    (entry,) = offered(make_card())
    target = tmp_path / "somewhere" / "else"
    assert run("export", "wnn_h8", target) == (0, f"Written to {target}\n", "")
    for name in ("card.yaml", "weights.safetensors"):
        assert (target / name).read_bytes() == (entry.folder / name).read_bytes()
    assert run("export", "wnn_h8", target) == (
        2,
        "",
        f"ninokit: {target}: exists already; remove it, or choose another folder\n",
    )


def test_export_for_the_published_code(run, offered, wnn, tmp_path):
    import hashlib

    offered(make_card())
    target = tmp_path / "somewhere" / "model.pt"
    assert run("export", "wnn_h8", target) == (0, f"Written to {target}\n", "")
    again = nowcasters.load(target, sha256=hashlib.sha256(target.read_bytes()).hexdigest())
    state = wnn.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    assert run("export", "wnn_h8", target) == (
        2,
        "",
        f"ninokit: {target}: exists already; remove it, or choose another file\n",
    )


def test_export_of_a_family_that_the_published_code_does_not_know(run, tmp_path, monkeypatch, offered):
    offered(make_card())
    monkeypatch.setattr("ninokit.zoo.operations.load", lambda source: nowcasters.LineFit())
    code, _, err = run("export", "wnn_h8", tmp_path / "model.pt")
    assert (code, err) == (2, "ninokit: wnn_h8: the published code knows no LineFit; export it to a folder\n")


def test_written_exported_and_read_a_nino_is_the_same(run, tmp_path):
    arguments = {"hidden": 4, "context": 3, "max_horizon": 7, "layers": 1}
    nino = Nino(**arguments)
    zoo.write_entry(tmp_path / "nino", nino, make_card(name="nino_h4.test", family="nino", arguments=arguments))
    assert run("export", f"local-dir:{tmp_path / 'nino'}", tmp_path / "copy")[0] == 0
    state = nino.state_dict()
    again = zoo.load(f"local-dir:{tmp_path / 'copy'}")
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_an_unknown_name(run, offered):
    offered(make_card())
    for command in ("info", "download"):
        code, out, err = run(command, "wnn_h9")
        assert (code, out) == (2, "")
        assert err == "ninokit: zoo: there is no 'wnn_h9'. Did you mean 'wnn_h8'? `ninokit zoo list` shows all names\n"


def test_a_command_is_required(run):
    with pytest.raises(SystemExit, match=r"^2$"):
        run()
