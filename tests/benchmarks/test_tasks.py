"""The built-in tasks: their data from files made here, their networks counted by hand, their import cheap."""

from __future__ import annotations

import functools
import gzip
import hashlib
import pickle
import random
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from ninokit.benchmarks import Better, ClassificationData
from ninokit.benchmarks.tasks.cifar import load_cifar10
from ninokit.benchmarks.tasks.images import without_validation
from ninokit.builtin.tasks import ninokit_tasks
from ninokit.errors import DatasetError, DependencyError

TASKS = {task.name: task for task in ninokit_tasks()}
GREY_MEAN, GREY_STD = 0.1307, 0.3081


@functools.cache
def _data(name: str) -> ClassificationData:
    return TASKS[name].load_data(None)


def test_names():
    kinds = [f"{kind}_cnn" for kind in ("batchnorm", "depthwise")] + ["resnet"]
    assert list(TASKS) == [
        *("mnist1d_mlp", "mnist1d_cnn", "mnist1d_mlp_shallow", "mnist1d_mlp_deep"),
        *(f"mnist1d_{kind}" for kind in kinds),
        *("mnist1d_fresh_mlp", "mnist1d_fresh_cnn"),
        *("digits_mlp", "digits_cnn", *(f"digits_{kind}" for kind in kinds), "digits_vit"),
        *("fashion_mlp", "fashion_cnn", *(f"fashion_{kind}" for kind in kinds), "fashion_vit", "fm16"),
        *("fashion_cnn_4k", "fashion_cnn_4k_slow"),
        *("shakespeare_gpt2_narrow", "shakespeare_gpt2_shallow", "shakespeare_gpt2"),
        *("shakespeare_gpt2_tiny", "shakespeare_gpt2_tiny_slow"),
        *("fm32", "c10_16", "c10_cnn_4k", "mnist_mlp", "mnist_vit", "wikitext2_gpt2"),
        *("finetune_cnn", "finetune_lora_gpt2"),
    ]
    without_files = [name for name, task in TASKS.items() if not task.needs_data_root]
    assert without_files == [name for name in TASKS if name.startswith(("mnist1d", "digits"))]


def test_importing_the_tasks_imports_no_optional_package():
    optional = "{'matplotlib', 'mnist1d', 'peft', 'scipy', 'sklearn', 'tokenizers', 'torchvision', 'transformers'}"
    code = f"import sys; from ninokit.builtin import tasks; tasks.ninokit_tasks(); print({optional} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "module"),
    [("mnist1d_mlp", "mnist1d.data"), ("mnist1d_cnn", "mnist1d.data"), ("digits_mlp", "sklearn.datasets")],
)
def test_a_missing_package_is_named_with_what_to_install(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    expected = rf'needs the package {package!r}.*Install it with: pip install "ninokit\[benchmarks\]"$'
    with pytest.raises(DependencyError, match=expected):
        TASKS[name].load_data(None)


@pytest.mark.parametrize(
    ("name", "train_shape", "test_shape"),
    [
        ("mnist1d_mlp", (4000, 40), (1000, 40)),
        ("mnist1d_cnn", (4000, 1, 40), (1000, 1, 40)),
        ("digits_mlp", (1437, 64), (360, 64)),
        ("digits_vit", (1437, 1, 8, 8), (360, 1, 8, 8)),
    ],
)
def test_embedded_data_fits_the_network(name, train_shape, test_shape):
    data = _data(name)
    assert tuple(data.train_inputs.shape) == train_shape
    assert tuple(data.test_inputs.shape) == test_shape
    assert set(data.train_labels.tolist()) == set(data.test_labels.tolist()) == set(range(10))
    assert TASKS[name].build_model()(data.test_inputs[:7]).shape == (7, 10)


@pytest.mark.parametrize("name", ["mnist1d_mlp", "digits_mlp"])
def test_embedded_data_is_the_same_every_time(name):
    data, again = _data(name), TASKS[name].load_data(None)
    assert torch.equal(data.train_inputs, again.train_inputs)
    assert torch.equal(data.test_labels, again.test_labels)


def test_mnist1d_is_normalised_and_both_tasks_share_it():
    flat, channels = _data("mnist1d_mlp"), _data("mnist1d_cnn")
    signals = torch.cat([flat.train_inputs, flat.test_inputs])
    assert signals.mean().item() == pytest.approx(0, abs=1e-5)
    assert signals.std().item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(channels.train_inputs[:, 0], flat.train_inputs)


@pytest.mark.parametrize("name", ["mnist1d_mlp", "digits_mlp"])
def test_loading_leaves_the_global_random_states(name):
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.random(), torch.rand(1)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    TASKS[name].load_data(None)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected


def test_digits_are_split_into_two_without_overlap():
    from sklearn.datasets import load_digits

    data = _data("digits_mlp")
    images, labels = load_digits(return_X_y=True)
    rows = torch.cat([data.train_inputs, data.test_inputs]) * 16
    classes = torch.cat([data.train_labels, data.test_labels])
    found = sorted([*row, int(label)] for row, label in zip(rows.tolist(), classes, strict=True))
    assert found == sorted([*row, int(label)] for row, label in zip(images.tolist(), labels, strict=True))


def test_digits_are_shuffled_before_the_split():
    from sklearn.datasets import load_digits

    labels = load_digits().target
    assert _data("digits_mlp").train_labels[:100].tolist() != labels[:100].tolist()


@pytest.mark.parametrize(("examples", "kept"), [(60_000, 55_000), (50_000, 45_834), (11, 11), (12, 11)])
def test_the_last_twelfth_is_held_back(examples, kept):
    assert without_validation(examples) == kept


@pytest.mark.parametrize(
    ("name", "channels", "side", "parameters"),
    # 16·(9c + 1) + 32·(9·16 + 1) + 32·(9·32 + 1) + 10·(32 + 1)
    [("fm16", 1, 28, 160 + 4_640 + 9_248 + 330), ("c10_16", 3, 32, 448 + 4_640 + 9_248 + 330)],
)
def test_published_networks(name, channels, side, parameters):
    model = TASKS[name].build_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    images = torch.randn(2, channels, side, side)
    assert model(images).shape == (2, 10)
    half = (side - 3) // 2 + 1
    assert model[0](images).shape == (2, 16, half, half)
    assert model[:6](images).shape == (2, 32, half, half)
    assert [type(layer).__name__ for layer in model] == [
        *("Conv2d", "ReLU") * 3,
        "AdaptiveAvgPool2d",
        "Flatten",
        "Linear",
    ]
    assert list(model.state_dict()) == [f"{layer}.{kind}" for layer in (0, 2, 4, 8) for kind in ("weight", "bias")]


@pytest.mark.parametrize(
    ("name", "lr", "target", "eval_every"),
    [("fm16", 0.006, 0.895, 25), ("fm32", 0.006, 0.905, 100), ("c10_16", 0.003, 0.66, 100)],
)
def test_settings_of_the_vision_tasks(name, lr, target, eval_every):
    task = TASKS[name]
    assert (task.lr, task.target, task.weight_decay) == (lr, target, 0.0)
    assert (task.batch_size, task.total_steps, task.eval_every, task.period) == (128, 10_000, eval_every, 1_000)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("fashion_cnn_4k", "fashion_cnn_4k_slow", "c10_cnn_4k"), (128, 2_000, 200, 0.0)),
        (("shakespeare_gpt2_tiny", "shakespeare_gpt2_tiny_slow"), (16, 2_000, 200, 0.1)),
        (("mnist1d_fresh_mlp", "mnist1d_fresh_cnn"), (128, 2_000, 200, 0.0)),
        (("finetune_cnn",), (128, 2_000, 200, 0.0)),
        (("finetune_lora_gpt2",), (16, 2_000, 200, 0.0)),
    ],
)
def test_settings_of_the_tasks_of_fair_comparisons(names, settings):
    for task in (TASKS[name] for name in names):
        assert (task.batch_size, task.total_steps, task.period, task.weight_decay) == settings
        assert task.metric.better is Better.LOWER


def test_slow_tasks_have_the_papers_rates_and_differ_in_nothing_else_but_the_target():
    for name, rates in (("fashion_cnn_4k", (0.02, 0.006)), ("shakespeare_gpt2_tiny", (0.005, 0.0002))):
        tuned, slow = (vars(TASKS[key]) for key in (name, f"{name}_slow"))
        assert (tuned["lr"], slow["lr"]) == rates
        assert tuned["target"] < slow["target"]
        own = {"name", "description", "lr", "target", "load_data", "build_model"}
        assert {key for key in tuned if tuned[key] != slow[key]} <= own


# MNIST and FashionMNIST, from files of 24 training and 5 test images.


def _idx(array: np.ndarray) -> bytes:
    """The IDX file format: two zero bytes, type 8 (uint8), rank, big-endian sizes, values."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


class _IdxFiles(NamedTuple):
    task: str
    name: str
    root: Path
    arrays: dict[str, np.ndarray]

    @property
    def raw(self) -> Path:
        return self.root / self.name / "raw"

    def load(self) -> ClassificationData:
        return TASKS[self.task].load_data(self.root)


_IDX_TASKS = [("fm16", "FashionMNIST"), ("fashion_vit", "FashionMNIST"), ("mnist_vit", "MNIST"), ("mnist_mlp", "MNIST")]


@pytest.fixture(params=_IDX_TASKS, ids=lambda param: param[0])
def idx_files(request, tmp_path, monkeypatch):
    """A data root with packed files, and the arrays in them; torchvision takes their checksums for the published."""
    dataset = getattr(pytest.importorskip("torchvision.datasets"), request.param[1])
    source = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": source.integers(0, 256, (24, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": source.integers(0, 10, 24, dtype=np.uint8),
        "t10k-images-idx3-ubyte": source.integers(0, 256, (5, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": source.integers(0, 10, 5, dtype=np.uint8),
    }
    files = _IdxFiles(*request.param, tmp_path / "data", arrays)
    files.raw.mkdir(parents=True)
    resources = []
    for name, array in arrays.items():
        packed = gzip.compress(_idx(array))
        (files.raw / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(dataset, "resources", resources)
    monkeypatch.setattr(dataset, "mirrors", ["http://invalid.invalid/"])
    return files


def _check_images(data, arrays):
    images = (arrays["train-images-idx3-ubyte"].astype(np.float64) / 255 - GREY_MEAN) / GREY_STD
    np.testing.assert_allclose(data.train_inputs.numpy(), images[:22, None], rtol=1e-5, atol=1e-6)
    assert data.train_labels.tolist() == arrays["train-labels-idx1-ubyte"][:22].tolist()
    validation = data.held_out("validation")
    np.testing.assert_allclose(validation[0].numpy(), images[22:, None], rtol=1e-5, atol=1e-6)
    assert validation[1].tolist() == arrays["train-labels-idx1-ubyte"][22:].tolist()
    assert len(data.held_out("test")[1]) == 5
    tests = (arrays["t10k-images-idx3-ubyte"].astype(np.float64) / 255 - GREY_MEAN) / GREY_STD
    np.testing.assert_allclose(data.test_inputs.numpy(), tests[:, None], rtol=1e-5, atol=1e-6)
    assert data.test_labels.tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()


def _listing(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_idx_images_from_packed_files_in_a_folder_that_is_not_written_to(idx_files):
    root = idx_files.root
    before = _listing(root)
    for path in [*root.rglob("*"), root]:
        path.chmod(stat.S_IREAD | (stat.S_IEXEC if path.is_dir() else 0))
    try:
        _check_images(idx_files.load(), idx_files.arrays)
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(stat.S_IRWXU)
    assert _listing(root) == before


def test_idx_images_from_unpacked_files(idx_files):
    for path in idx_files.raw.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    _check_images(idx_files.load(), idx_files.arrays)


@pytest.mark.parametrize("size", [0, 10, 100])
def test_an_unpacked_idx_file_that_is_cut_off(idx_files, size):
    for path in idx_files.raw.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    damaged = idx_files.raw / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:size])
    with pytest.raises(DatasetError) as caught:
        idx_files.load()
    assert str(caught.value).startswith(f"task {idx_files.task!r}: a file in {idx_files.raw} is damaged (")
    assert str(caught.value).endswith("). Fetch it again")


def test_a_missing_idx_file_is_named(idx_files):
    missing = idx_files.raw / "t10k-labels-idx1-ubyte.gz"
    missing.unlink()
    with pytest.raises(DatasetError) as caught:
        idx_files.load()
    name = idx_files.name
    assert str(caught.value) == (
        f"task {idx_files.task!r}: {missing} is missing. Expected the four {name} files, packed (.gz) or unpacked, in "
        f"{missing.parent}. Put them there, or set data_root to the folder of {name}/raw"
    )


def test_a_damaged_idx_file_is_named_and_not_downloaded(idx_files):
    damaged = idx_files.raw / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"train-labels-idx1-ubyte\.gz is damaged: its MD5 is not the publ"):
        idx_files.load()


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.needs_data_root])
def test_tasks_with_files_ask_for_a_folder_that_exists(name, tmp_path):
    with pytest.raises(DatasetError, match=rf"^task '{name}' reads its data from a folder and none was given\."):
        TASKS[name].load_data(None)
    with pytest.raises(DatasetError, match=rf"^task '{name}': the data folder .*absent does not exist"):
        TASKS[name].load_data(tmp_path / "absent")


# CIFAR-10, from files of 12 training and 4 test images.


@pytest.fixture
def cifar_arrays():
    source = np.random.default_rng(1)
    return {
        "train_x": source.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8),
        "train_y": source.integers(0, 10, 12),
        "test_x": source.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8),
        "test_y": source.integers(0, 10, 4),
    }


def _check_cifar(data, arrays):
    mean, std = np.array([0.49139968, 0.48215827, 0.44653124]), np.array([0.24703233, 0.24348505, 0.26158768])
    for found, images in (
        (data.train_inputs, arrays["train_x"][:11]),
        (data.validation_inputs, arrays["train_x"][11:]),
        (data.test_inputs, arrays["test_x"]),
    ):
        expected = ((images.astype(np.float64) / 255 - mean) / std).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert data.train_labels.tolist() == arrays["train_y"][:11].tolist()
    assert data.validation_labels.tolist() == arrays["train_y"][11:].tolist()
    assert data.test_labels.tolist() == arrays["test_y"].tolist()


def test_cifar_arrays_that_are_cut_off(tmp_path, cifar_arrays):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **cifar_arrays)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError) as caught:
        load_cifar10(tmp_path, "c10_16")
    assert str(caught.value) == f"task 'c10_16': {path} can't be read (File is not a zip file). Put a whole one there"


@pytest.mark.parametrize("labels", [11, 13])
def test_cifar_with_other_than_a_label_an_image(tmp_path, cifar_arrays, labels):
    np.savez(tmp_path / "cifar10.npz", **cifar_arrays | {"train_y": np.zeros(labels, dtype=int)})
    with pytest.raises(DatasetError) as caught:
        load_cifar10(tmp_path, "c10_16")
    assert str(caught.value) == (
        f"task 'c10_16': expected a label for each of 12 images; got labels of shape ({labels},). Fetch the data again"
    )


def test_cifar_from_one_array_file(tmp_path, cifar_arrays):
    np.savez(tmp_path / "cifar10.npz", **cifar_arrays)
    _check_cifar(load_cifar10(tmp_path, "c10_16"), cifar_arrays)


@pytest.fixture
def cifar_pickles(tmp_path, monkeypatch, cifar_arrays):
    """A folder of pickles as published, in one training and one test batch."""
    dataset = pytest.importorskip("torchvision.datasets").CIFAR10
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(split: str) -> dict[str, object]:
        rows = cifar_arrays[f"{split}_x"].transpose(0, 3, 1, 2).reshape(-1, 3072)
        return {"data": rows, "labels": cifar_arrays[f"{split}_y"].tolist()}

    names = [f"class {index}" for index in range(10)]
    train, test = write("data_batch_1", batch("train")), write("test_batch", batch("test"))
    meta = {"filename": "batches.meta", "key": "label_names", "md5": write("batches.meta", {"label_names": names})}
    monkeypatch.setattr(dataset, "train_list", [["data_batch_1", train]])
    monkeypatch.setattr(dataset, "test_list", [["test_batch", test]])
    monkeypatch.setattr(dataset, "meta", meta)
    return tmp_path


def test_cifar_from_pickles(cifar_pickles, cifar_arrays):
    _check_cifar(load_cifar10(cifar_pickles, "c10_16"), cifar_arrays)


def test_cifar_pickles_that_were_altered_are_not_read(cifar_pickles, cifar_arrays):
    altered = cifar_pickles / "cifar-10-batches-py" / "data_batch_1"
    altered.write_bytes(altered.read_bytes() + b" ")
    with pytest.raises(DatasetError, match=r"cifar-10-batches-py is there but incomplete or altered, and there is"):
        load_cifar10(cifar_pickles, "c10_16")
    np.savez(cifar_pickles / "cifar10.npz", **cifar_arrays)
    _check_cifar(load_cifar10(cifar_pickles, "c10_16"), cifar_arrays)


def test_missing_cifar_names_the_folder_and_both_forms(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load_cifar10(tmp_path, "c10_16")
    assert str(caught.value) == (
        f"task 'c10_16': no CIFAR-10 in {tmp_path}: cifar-10-batches-py is missing, and there is no cifar10.npz. "
        "Unpack the published Python version there, or set data_root to the folder of one of the two"
    )


def test_cifar_arrays_that_lack_a_key_or_have_another_layout(tmp_path, cifar_arrays):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **{key: value for key, value in cifar_arrays.items() if key != "test_y"})
    with pytest.raises(DatasetError, match=r"cifar10\.npz lacks test_y; it has train_x, train_y, test_x$"):
        load_cifar10(tmp_path, "c10_16")
    np.savez(path, **{**cifar_arrays, "test_x": cifar_arrays["test_x"].transpose(0, 3, 1, 2)})
    with pytest.raises(DatasetError, match=r"test_x .* must be uint8 of shape \(N, 32, 32, 3\); got uint8 of shape"):
        load_cifar10(tmp_path, "c10_16")


def test_networks_without_attention_are_sequential_and_named_plainly():
    for name in ("mnist1d_mlp", "mnist1d_cnn", "digits_mlp", "fm16", "c10_16"):
        assert isinstance(TASKS[name].build_model(), nn.Sequential)
