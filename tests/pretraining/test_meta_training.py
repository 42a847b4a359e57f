"""Steps of meta-training: what they depend on, what they change, and what they refuse to learn from."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from ninokit.graph import laplacian_positions
from ninokit.nowcasters import Nino, Wnn
from ninokit.pretraining.meta_training import MetaTraining, build_nowcaster, draw_positions
from ninokit.pretraining.objective import ScaledSlices, unchanged_errors
from ninokit.pretraining.pretrain_config import PretrainConfig
from ninokit.pretraining.slices import SliceSampler, encode_tasks

SMALL = {"hidden": 8, "context": 3, "max_horizon": 7, "spacing": [5, 40], "warmup_steps": 5, "steps": 40}


def make_batches(store, count: int) -> list:
    sampler = SliceSampler(store.trajectories, encode_tasks(store.trajectories), context=3, horizon=7, spacing=(5, 40))
    return [sampler.draw(np.random.default_rng(seed), 2, 4) for seed in range(count)]


def train(training: MetaTraining, batches: list) -> list[float]:
    return [training.train_step(batch, np.random.default_rng(training.step)) for batch in batches]


def weights(training: MetaTraining) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in training.averaged.parameters()]).detach().clone()


@pytest.mark.parametrize("family", ["nino", "wnn"])
def test_a_new_nowcaster_predicts_that_nothing_changes_and_then_learns(tiny_store, family):
    batches = make_batches(tiny_store, 100)
    training = MetaTraining(PretrainConfig(family=family, lr=0.01, ema_decay=0.8, **(SMALL | {"steps": 100})))
    still = [unchanged_errors(ScaledSlices.of(slices, 3)) for slices in batches[0]]
    for slices, expected in zip(batches[0], still, strict=True):
        torch.testing.assert_close(training.errors(slices), expected)
    train(training, batches)
    for slices, before in zip(batches[0], still, strict=True):
        assert training.errors(slices).mean() < 0.7 * before.mean()
    assert training.learning_rate == 0


@pytest.mark.usefixtures("dgl_installed")
def test_both_forms_of_nino_learn_the_same(tiny_store):
    batches = make_batches(tiny_store, 3)
    losses = [train(MetaTraining(PretrainConfig(form=form, **SMALL)), batches) for form in ("blocks", "dgl")]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_kept_state_goes_on_bit_for_bit(tiny_store):
    batches = make_batches(tiny_store, 8)
    config = PretrainConfig(**SMALL)
    through = MetaTraining(config)
    losses = train(through, batches)
    first, second = MetaTraining(config), MetaTraining(config)
    train(first, batches[:4])
    second.load_state_dict(first.state_dict())
    assert train(second, batches[4:]) == losses[4:]
    assert torch.equal(weights(second), weights(through))


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tiny_store, caplog):
    good, bad = make_batches(tiny_store, 2)
    bad[1].states["0.bias"][2, 0] = torch.nan
    training = MetaTraining(PretrainConfig(**SMALL))
    train(training, [good])
    before = weights(training)
    with caplog.at_level(logging.WARNING):
        (loss,) = train(training, [bad])
    assert np.isnan(loss)
    assert torch.equal(weights(training), before)
    assert (training.step, training.skipped) == (2, 1)
    tasks = ", ".join(slices.task for slices in bad)
    assert caplog.messages == [f"step 1 skipped: L1 nan, gradient norm nan, on slices of {tasks} (1 skipped so far)"]
    train(training, [good])
    assert not torch.equal(weights(training), before)
    assert weights(training).isfinite().all()


def test_gradients_are_clipped(tiny_store):
    batches = make_batches(tiny_store, 1)
    training = MetaTraining(PretrainConfig(max_gradient_norm=1e-3, **SMALL))
    train(training, batches)
    gradients = [parameter.grad for parameter in training._nowcaster.parameters() if parameter.grad is not None]
    assert torch.cat([g.flatten() for g in gradients]).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_learning_rate_rises_and_falls(tiny_store):
    batches = make_batches(tiny_store, 1)
    training = MetaTraining(PretrainConfig(lr=1.0, **SMALL))
    rates = []
    for _ in range(40):
        rates.append(training.learning_rate)
        train(training, batches)
    expected = [min(1, (t + 1) / 5) * (1 + np.cos(np.pi * t / 40)) / 2 for t in range(40)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_the_kept_weights_are_a_moving_average(tiny_store):
    batches = make_batches(tiny_store, 3)
    training = MetaTraining(PretrainConfig(ema_decay=0.75, **SMALL))
    average = None
    for batch in batches:
        train(training, [batch])
        now = torch.cat([parameter.flatten() for parameter in training._nowcaster.parameters()]).detach()
        average = now.clone() if average is None else 0.75 * average + 0.25 * now
        torch.testing.assert_close(weights(training), average)


def test_positions_are_drawn_from_the_same_eigenspaces(tiny_models):
    import ninokit

    graph = ninokit.encode(tiny_models["deep"]())
    drawn = draw_positions(graph, 50, np.random.default_rng(0)).double()
    values = laplacian_positions(graph, 8).values
    laplacian = _laplacian(graph)
    for vectors in drawn:
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(8).double(), rtol=0, atol=1e-5)
        torch.testing.assert_close(laplacian @ vectors, vectors * values, rtol=0, atol=1e-5)
    signs = (drawn[:, 0] / drawn[0, 0]).round()
    assert {tuple(row) for row in signs[:, :1].tolist()} == {(1.0,), (-1.0,)}
    assert len({tuple(row) for row in signs.tolist()}) > 20
    other = draw_positions(graph, 1, np.random.default_rng(1)).double()
    assert not torch.allclose(other.abs(), drawn[:1].abs(), atol=0.01)


def _laplacian(graph) -> torch.Tensor:
    from ninokit.graph.edge_values import edge_endpoints

    sources, destinations = edge_endpoints(graph)
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    adjacency[sources, destinations] = adjacency[destinations, sources] = 1
    adjacency.fill_diagonal_(0)
    roots = adjacency.sum(1).rsqrt()
    return torch.eye(graph.num_nodes) - roots[:, None] * adjacency * roots


@pytest.mark.parametrize(("family", "layer"), [("nino", "edge_embedding"), ("wnn", "weight_embedding")])
def test_differences_between_states_are_amplified_at_the_start(family, layer):
    config = PretrainConfig(family=family, **SMALL)
    found = getattr(build_nowcaster(config), layer).weight
    torch.manual_seed(config.seed)
    plain = getattr((Nino if family == "nino" else Wnn)(hidden=8, context=3, max_horizon=7), layer).weight
    states = torch.zeros(plain.shape[1])
    states[:3] = 1.0
    torch.testing.assert_close(found @ states, plain @ states)
    states[:3] = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(found @ states, 10 * (plain @ states))


def test_what_is_built_depends_on_the_seed_alone():
    torch.manual_seed(5)
    first = build_nowcaster(PretrainConfig(**SMALL)).edge_embedding.weight
    following = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), following)
    assert torch.equal(build_nowcaster(PretrainConfig(**SMALL)).edge_embedding.weight, first)
    assert not torch.equal(build_nowcaster(PretrainConfig(seed=1, **SMALL)).edge_embedding.weight, first)
