import hashlib

import pytest
import torch

from ninokit.errors import CheckpointError
from ninokit.nowcasters import Nino, Wnn, load
from ninokit.nowcasters.published import PUBLISHED_SHA256, read_published, to_published


def write(folder, content, name="model.pt") -> dict[str, str]:
    path = folder / name
    torch.save(content, path)
    return {"path": path, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("nowcaster", [Nino(16), Wnn(16), Nino(8, 4, 12, layers=3), Wnn(8, 3, 7)])
def test_written_and_read_it_is_the_same(tmp_path, nowcaster):
    again = read_published(**write(tmp_path, to_published(nowcaster)))
    assert type(again) is type(nowcaster)
    assert (again.context, again.max_horizon) == (nowcaster.context, nowcaster.max_horizon)
    assert again.state_dict().keys() == nowcaster.state_dict().keys()
    for name, tensor in nowcaster.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("name", sorted(PUBLISHED_SHA256))
def test_published_files_round_trip(shared_folder, name):
    path = shared_folder / "weights" / name
    theirs = torch.load(path, weights_only=True)
    ours = to_published(read_published(path))["state_dict"]
    assert ours.keys() == theirs["state_dict"].keys()
    for key, tensor in theirs["state_dict"].items():
        if key.startswith("gnn.convs.2."):  # nothing reads the last convolution
            assert not ours[key].any()
        else:
            assert torch.equal(ours[key], tensor)


def test_another_hash_is_refused_before_the_file_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, to_published(Wnn(8)))["path"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
    with pytest.raises(CheckpointError) as caught:
        load(path, sha256="0" * 64)
    assert str(caught.value) == (
        f"{path}: expected sha256 {'0' * 64}, got {found}; the file is damaged, altered, or another one: fetch it again"
    )


def test_a_published_name_needs_the_published_file(tmp_path):
    path = write(tmp_path, to_published(Wnn(8)), "nino_mlp.pt")["path"]
    with pytest.raises(CheckpointError, match=f"expected sha256 {PUBLISHED_SHA256['nino_mlp.pt']}, got "):
        read_published(path)


def test_an_unknown_name_needs_a_hash(tmp_path):
    path = write(tmp_path, to_published(Wnn(8)))["path"]
    with pytest.raises(CheckpointError) as caught:
        read_published(path)
    assert str(caught.value) == (
        f"{path}: no published checkpoint has this file name (they are ['nino_mlp.pt', 'nino_mlp_h32.pt', "
        f"'nino_no_posw.pt']); if you trust the file, load it with ninokit.nowcasters.load(path, sha256=…), or "
        f"nowcaster_sha256=… on the command line"
    )


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        read_published(tmp_path / "nino_mlp.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'nino_mlp.pt'}: can't be read (No such file or directory); give the path of a checkpoint"
    )


def altered(change) -> dict:
    content = to_published(Nino(8))
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            altered(lambda c: c["state_dict"].update({"gnn.convs.1.lin.bias": torch.zeros(9)})),
            "gnn.convs.1.lin.bias: expected shape (8,), got (9,)",
        ),
        (altered(lambda c: c["state_dict"].pop("edge_out.fc.0.bias")), "the tensor 'edge_out.fc.0.bias' is missing"),
        (
            altered(lambda c: c["state_dict"].pop("layer_embed.weight")),
            "the tensor 'layer_embed.weight' is missing or has too few axes",
        ),
        (
            altered(lambda c: c["state_dict"].update({"towers.weight": torch.zeros(9)})),
            "nothing reads the tensor 'towers.weight'; this is a model of another form",
        ),
        (
            altered(lambda c: c["model_args"].pop("wte_pos_enc")),
            "was trained with GPT-2's word positions, which other networks lack; use nino_no_posw.pt",
        ),
        ({"weights": 1}, "expected a dictionary with 'state_dict' and 'model_args', got ['weights']"),
        ([1], "expected a dictionary, got list"),
        ({"state_dict": {"a": 1}, "model_args": {}}, "'state_dict' holds other things than tensors by name"),
        (
            altered(lambda c: c.update(model_args=None)),
            "expected a dictionary with 'state_dict' and 'model_args', got ['model_args', 'state_dict']",
        ),
        (
            altered(lambda c: c["state_dict"].update({"gnn.convs.7.lin.bias": torch.zeros(8)})),
            "nothing reads the tensor 'convolutions.7.output.bias'; this is a model of another form",
        ),
    ],
)
def test_a_model_of_another_form_is_refused(tmp_path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(CheckpointError) as caught:
        read_published(**file)
    assert str(caught.value) == f"{file['path']}: {message}"


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="is no PyTorch checkpoint of plain tensors"):
        read_published(path, sha256=hashlib.sha256(b"not a checkpoint").hexdigest())
