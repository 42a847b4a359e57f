"""Networks trained side by side against the same networks trained alone by torch's AdamW."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from networks import TASKS, flat, train_alone
from torch import nn

from ninokit.errors import ConfigError
from ninokit.pretraining.network_stack import NetworkStack, faster_execution
from ninokit.pretraining.stacked_adamw import StackedAdamW
from ninokit.pretraining.stacked_training import StackedTraining

SEEDS = (0, 1, 5)
HYPERPARAMETERS = (
    {"lr": 0.01, "weight_decay": 0.0},
    {"lr": 0.003, "weight_decay": 0.1},
    {"lr": 0.03, "weight_decay": 0.01},
)
STEPS = 15  # five epochs of three batches


def training(task, execution="stacked", seeds=SEEDS, **settings) -> StackedTraining:
    values = HYPERPARAMETERS[: len(seeds)]
    return StackedTraining(
        task, task.load_data(None), seeds=seeds, hyperparameters=values, execution=execution, **settings
    )


@pytest.mark.parametrize("execution", ["stacked", "looped"])
@pytest.mark.parametrize("name", TASKS)
def test_every_network_goes_the_way_that_it_would_go_alone(name, execution):
    task = TASKS[name]
    together = training(task, execution)
    losses = torch.stack([together.step() for _ in range(STEPS)])
    data = task.load_data(None)
    for row, (seed, values) in enumerate(zip(SEEDS, HYPERPARAMETERS, strict=True)):
        model, alone = train_alone(task, seed, **values, steps=STEPS)
        # AdamW makes steps of gradients that are rounding alone, as those of the keys' biases.
        torch.testing.assert_close(together.parameters[row], flat(model), rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(losses[:, row], torch.tensor(alone, dtype=losses.dtype), rtol=1e-8, atol=1e-10)
        found = together._stack.network(row)
        for key, expected in model.state_dict().items():
            torch.testing.assert_close(found.state_dict()[key], expected, rtol=1e-8, atol=1e-9)
        assert together.score(row) == task.evaluate(model, data)


def test_running_statistics_are_each_networks_own():
    together = training(TASKS["batchnorm_cnn"])
    for _ in range(4):
        together.step()
    means = together._stack.buffers["1.running_mean"]
    assert (means[0] - means[1]).abs().max() > 1e-4
    assert together._stack.buffers["1.num_batches_tracked"].tolist() == [4, 4, 4]


@pytest.mark.parametrize("execution", ["stacked", "looped"])
@pytest.mark.parametrize("name", ["mlp", "batchnorm_cnn"])
def test_resumed_trainings_are_bit_identical(name, execution):
    uninterrupted, interrupted = training(TASKS[name], execution), training(TASKS[name], execution)
    for _ in range(4):
        uninterrupted.step()
        interrupted.step()
    resumed = training(TASKS[name], execution)
    resumed.load_state_dict(interrupted.state_dict())
    for _ in range(7):
        assert torch.equal(resumed.step(), uninterrupted.step())
    assert torch.equal(resumed.parameters, uninterrupted.parameters)
    for key, buffer in uninterrupted._stack.buffers.items():
        assert torch.equal(resumed._stack.buffers[key], buffer)


@pytest.mark.parametrize("execution", ["stacked", "looped"])
def test_dropout_is_each_networks_own(execution):
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(40, 3))
    stack = NetworkStack([network, network], lambda model, x, y: model(x).square().mean(), execution)
    x = torch.ones(1, 4, 40).expand(2, -1, -1)
    losses, _ = stack.losses_and_gradients(x, torch.zeros(2, 4))
    assert losses[0] != losses[1]


def test_attention_is_stacked_without_a_fallback(recwarn):
    training(TASKS["gpt2"]).step()
    assert [str(warning.message) for warning in recwarn] == []


def test_autocast_computes_in_bfloat16_and_keeps_the_numbers():
    exact, rough = (_float_mlp(autocast) for autocast in (False, True))
    losses = [together.step() for together in (exact, rough)]
    assert not torch.equal(*losses)
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.05)
    assert rough.parameters.dtype == torch.float32


def _float_mlp(autocast: bool) -> StackedTraining:
    return training(_in_float32(TASKS["mlp"]), autocast=autocast)


def _in_float32(task):
    data = task.load_data(None)
    single = replace(data, train_inputs=data.train_inputs.float(), test_inputs=data.test_inputs.float())
    return replace(task, build_model=lambda: task.build_model().float(), load_data=lambda root: single)


class _Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(17, 3)

    def forward(self, x):
        scores = self.layer(x)
        return scores if scores.sum().item() > 0 else -scores


def test_a_network_that_cannot_be_stacked_says_what_to_do():
    task = replace(TASKS["mlp"], build_model=lambda: _Decides().double())
    with pytest.raises(ConfigError, match=r"^collect: this network cannot be stacked: .* Set execution=looped$"):
        training(task).step()
    training(task, "looped").step()


# A batch norm's on a GPU, an attention's there, and a fault that has nothing to do with either.
NORM = "Expected running_mean to have type BFloat16 but got Float"
ATTENTION = "expected input and grad types to match, or input to be at::Half and grad to be at::Float"
OWN = "expected scalar type Long but found Float"


class _Fails(nn.Module):
    """With a message, under autocast."""

    def __init__(self, message):
        super().__init__()
        self.layer = nn.Linear(17, 3)
        self.message = message

    def forward(self, x):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError(self.message)
        return self.layer(x)


@pytest.mark.parametrize("message", [NORM, ATTENTION])
def test_a_network_that_cannot_be_stacked_in_bfloat16_says_what_to_do(message):
    task = _in_float32(replace(TASKS["mlp"], build_model=lambda: _Fails(message)))
    with pytest.raises(ConfigError) as error:
        training(task, autocast=True).step()
    assert str(error.value) == (
        f"collect: this network cannot be stacked in bfloat16: {message}. Set autocast=false, or execution=looped"
    )
    training(task).step()


@pytest.mark.parametrize(("message", "execution"), [(NORM, "looped"), (OWN, "stacked")])
def test_a_networks_own_fault_is_not_blamed_on_bfloat16(message, execution):
    task = _in_float32(replace(TASKS["mlp"], build_model=lambda: _Fails(message)))
    with pytest.raises(RuntimeError) as error:
        training(task, execution, autocast=True).step()
    assert str(error.value) == message


def test_a_networks_own_fault_is_not_blamed_on_stacking():
    task = replace(TASKS["mlp"], build_model=lambda: nn.Linear(3, 3).double())
    with pytest.raises(RuntimeError, match=r"got: \[3, 3\]"):
        training(task).step()


def test_a_frozen_parameter_is_refused():
    def frozen():
        model = TASKS["mlp"].build_model()
        model[0].bias.requires_grad_(False)
        return model

    with pytest.raises(ConfigError) as caught:
        training(replace(TASKS["mlp"], build_model=frozen))
    assert str(caught.value) == "collect: expected a network that is trained as a whole; 0.bias is frozen"


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    training(TASKS["mlp"]).step()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("network", "device", "expected"),
    [
        (nn.Linear(200, 200), "cpu", "stacked"),
        (nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3)), "cpu", "stacked"),
        (nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 3)), "cpu", "looped"),
        (nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 3)), "cuda", "stacked"),
    ],
)
def test_the_faster_execution(network, device, expected):
    assert faster_execution(network, torch.device(device)) == expected


def test_adamw_of_rows_is_torchs_in_single_precision():
    start, gradients = torch.randn(2, 50), torch.randn(30, 2, 50)
    rows = start.clone()
    together = StackedAdamW(rows, lr=[0.01, 0.2], weight_decay=[0.0, 0.3])
    alone = [row.clone().requires_grad_() for row in start]
    optimizers = [
        torch.optim.AdamW([row], lr=lr, weight_decay=decay)
        for row, lr, decay in zip(alone, [0.01, 0.2], [0.0, 0.3], strict=True)
    ]
    for gradient in gradients:
        together.step(gradient)
        for row, optimizer, of_row in zip(alone, optimizers, gradient, strict=True):
            row.grad = of_row.clone()
            optimizer.step()
    torch.testing.assert_close(rows, torch.stack([row.detach() for row in alone]), rtol=1e-5, atol=1e-6)
