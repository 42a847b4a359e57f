"""Fresh MNIST-1D signals: against the package's own generator, signal by signal where nothing is drawn, else by law."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ninokit.benchmarks import ClassificationData
from ninokit.benchmarks.tasks.mnist1d import load_mnist1d
from ninokit.benchmarks.tasks.mnist1d_fresh import FRESH_TASKS, Generator, load_fresh
from ninokit.benchmarks.training import batches
from ninokit.errors import DependencyError

pytest.importorskip("scipy")
source = pytest.importorskip("mnist1d.data")
transform = pytest.importorskip("mnist1d.transform")

MLP, CNN = FRESH_TASKS
PLAIN = {"scale": 0.0, "max_translation": 1, "correlated_noise": 0.0, "white_noise": 0.0, "shear": 0.0}


@functools.cache
def fresh() -> ClassificationData:
    return load_fresh()


@functools.cache
def fresh_channels() -> ClassificationData:
    return CNN.load_data(None)


@functools.cache
def published() -> tuple[np.ndarray, np.ndarray]:
    """The package's 5000 signals, in double precision, with their labels."""
    data = load_mnist1d()
    signals = torch.cat([data.train_inputs, data.test_inputs]).double().numpy()
    return signals, torch.cat([data.train_labels, data.test_labels]).numpy()


def _stretched(label: int, zeros: int) -> np.ndarray:
    """A template with that many zeros behind, as the package stretches it to 72 points."""
    signal = np.concatenate([source.get_templates()["x"][label], np.zeros(zeros)])
    return transform.interpolate(signal, 72)


@pytest.mark.parametrize("zeros", [36, 47, 60])
def test_templates_are_padded_stretched_and_subsampled_as_in_the_package(zeros):
    generator = replace(Generator.published(), **PLAIN, padding=(zeros, 60))
    labels = np.repeat(np.arange(10), 300)
    signals = generator.signals(labels, seed=0)
    candidates = np.stack(
        [[transform.interpolate(_stretched(label, p), 40) for p in range(zeros, 61)] for label in range(10)]
    )
    distances = np.abs(candidates[labels] - signals[:, None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-6
    # Of 300 signals, every padding has some.
    assert set(distances[labels == 5].argmin(axis=1)) == set(range(61 - zeros))


def test_every_rotation_below_the_largest_occurs():
    generator = replace(Generator.published(), **PLAIN | {"max_translation": 48}, padding=(60, 60))
    signals = generator.signals(np.full(1_000, 3), seed=1)
    rotated = np.stack([transform.interpolate(np.roll(_stretched(3, 60), by), 40) for by in range(48)])
    distances = np.abs(rotated - signals[:, None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-6
    assert set(distances.argmin(axis=1)) == set(range(48))


def test_factors_and_slopes_fill_their_intervals():
    plain = replace(Generator.published(), **PLAIN, padding=(60, 60))
    clean = transform.interpolate(_stretched(8, 60), 40)
    line = np.linspace(-0.5, 0.5, 40)
    factors = replace(plain, scale=0.4).signals(np.full(5_000, 8), seed=2) @ clean / (clean @ clean)
    slopes = -(replace(plain, shear=0.75).signals(np.full(5_000, 8), seed=3) - clean) @ line / (line @ line)
    for found, centre, width in ((factors, 1, 0.4), (slopes, 0, 0.75)):
        assert found.min() == pytest.approx(centre - width / 2, abs=1e-3)
        assert found.max() == pytest.approx(centre + width / 2, abs=1e-3)
        assert found.std() == pytest.approx(width / np.sqrt(12), rel=0.03)


def test_correlated_noise_is_in_the_padding_alone():
    generator = replace(Generator.published(), **PLAIN | {"correlated_noise": 0.25}, padding=(60, 60), points=72)
    signals = generator.signals(np.full(4_000, 1), seed=4)
    np.testing.assert_allclose(signals[:, :12], np.tile(source.get_templates()["x"][1], (4_000, 1)), atol=1e-6)
    rng = np.random.default_rng(0)
    filtered = np.stack([transform.gaussian_filter(0.25 * rng.standard_normal(72), 2) for _ in range(4_000)])
    np.testing.assert_allclose(np.cov(signals[:, 12:].T), np.cov(filtered[:, 12:].T), atol=0.0015)


MOMENTS = {
    "mean": lambda signals, centre: signals,
    "variance": lambda signals, centre: (signals - centre) ** 2,
    "lag one": lambda signals, centre: (signals - centre)[:, 1:] * (signals - centre)[:, :-1],
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_moments_of_each_class_agree_with_the_packages_at_each_point(moment):
    """Differences over their standard errors: none large, and as large on the whole as chance makes them."""
    data, (signals, labels) = fresh(), published()
    ours, our_labels = data.train_inputs.double().numpy(), data.train_labels.numpy()
    deviations = []
    for label in range(10):
        mine, theirs = ours[our_labels == label], signals[labels == label]
        centre = mine.mean(axis=0)
        a, b = (MOMENTS[moment](part, centre) for part in (mine, theirs))
        error = np.sqrt(a.var(axis=0) * (1 / len(a) + 1 / len(b)))
        deviations.append((a.mean(axis=0) - b.mean(axis=0)) / error)
    assert np.abs(deviations).max() < 4.5
    assert 0.7 < np.sqrt(np.square(deviations).mean()) < 1.3


def test_a_network_trained_on_fresh_signals_scores_the_same_on_the_packages():
    data, (signals, labels) = fresh_channels(), published()
    torch.manual_seed(0)
    model = CNN.build_from(data)
    optimizer, order = CNN.build_optimizer(model), batches(data, CNN.batch_size, 0)
    for _ in range(250):
        inputs, classes = next(order)
        optimizer.zero_grad()
        CNN.loss(model, inputs, classes).backward()
        optimizer.step()
    with torch.no_grad():
        theirs = (model(torch.from_numpy(signals).float().unsqueeze(1)).argmax(dim=1).numpy() == labels).mean()
        ours = (model(data.test_inputs).argmax(dim=1) == data.test_labels).double().mean().item()
    assert ours > 0.8
    assert ours == pytest.approx(theirs, abs=0.02)


def test_splits_have_all_classes_alike_and_no_common_signal():
    data = fresh()
    parts = [data.train_inputs, *(data.held_out(split)[0] for split in ("validation", "test"))]
    assert [tuple(part.shape) for part in parts] == [(100_000, 40), (5_000, 40), (10_000, 40)]
    assert len(torch.cat(parts)[:, 0].unique()) > 114_000
    for labels in (data.train_labels, data.validation_labels, data.test_labels):
        assert torch.equal(labels.bincount(), torch.full((10,), len(labels) // 10))


def test_training_signals_are_normalised_and_both_tasks_share_the_data():
    data, channels = fresh(), fresh_channels()
    assert data.train_inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert data.train_inputs.std().item() == pytest.approx(1, abs=1e-4)
    assert data.test_inputs.std().item() == pytest.approx(1, abs=0.02)
    for part in ("train_inputs", "validation_inputs", "test_inputs"):
        assert torch.equal(getattr(channels, part)[:, 0], getattr(data, part))
    assert MLP.build_from(data)(data.test_inputs[:3]).shape == (3, 10)


def test_signals_are_their_seeds_and_leave_the_global_random_states():
    generator, labels = Generator.published(), np.arange(10)
    np.random.seed(5)
    torch.manual_seed(5)
    first = generator.signals(labels, seed=7)
    after = np.random.random(), torch.rand(1)
    np.random.seed(5)
    torch.manual_seed(5)
    assert (np.random.random(), torch.rand(1)) == after
    assert np.array_equal(first, generator.signals(labels, seed=7))
    assert not np.isclose(first, generator.signals(labels, seed=8)).any(axis=1).all()


@pytest.mark.parametrize("module", ["mnist1d.data", "scipy.ndimage"])
def test_a_missing_package_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(DependencyError, match=rf"^a task with fresh MNIST-1D signals needs the package '{package}'"):
        Generator.published().signals(np.arange(10), seed=0)
