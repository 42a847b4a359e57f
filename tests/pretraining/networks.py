"""Small tasks of every kind of network, in double precision, with a slow twin that trains one network alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ninokit.benchmarks import ClassificationData, Task
from ninokit.benchmarks.tasks.networks import mlp
from ninokit.benchmarks.training import batches


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 5, 5, stride=2), nn.ReLU(), nn.Conv1d(5, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(30, 3)
    )


def batchnorm_cnn() -> nn.Module:
    block = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm1d(4), nn.GELU())
    return nn.Sequential(
        nn.Conv1d(1, 4, 3, bias=False),
        nn.BatchNorm1d(4),
        Residual(block),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


class TiedTransformer(nn.Module):
    """A causal language model whose output layer shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=self.embedding.weight.dtype)
        return self.head(self.layer(self.embedding(tokens), src_mask=mask, is_causal=True))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    tokens = {"bos_token_id": None, "eos_token_id": None, "use_cache": False}
    config = GPT2Config(vocab_size=11, n_positions=7, n_embd=8, n_layer=1, n_head=2, **dropouts, **tokens)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = GPT2LMHeadModel(config)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.network(input_ids=tokens).logits

    return Logits()


def signals(root: object = None) -> ClassificationData:
    x = torch.randn(60, 1, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = (x.sum(dim=(1, 2)) > 0).long() + (x[:, 0, 0] > 1).long()
    return ClassificationData(train_inputs=x[:37], train_labels=y[:37], test_inputs=x[37:], test_labels=y[37:])


def flat_signals(root: object = None) -> ClassificationData:
    data = signals()
    return ClassificationData(
        train_inputs=data.train_inputs.flatten(1),
        train_labels=data.train_labels,
        test_inputs=data.test_inputs.flatten(1),
        test_labels=data.test_labels,
    )


def tokens(root: object = None) -> ClassificationData:
    x = torch.randint(11, (60, 7), generator=torch.Generator().manual_seed(1))
    y = (3 * x + 1) % 11
    return ClassificationData(train_inputs=x[:37], train_labels=y[:37], test_inputs=x[37:], test_labels=y[37:])


def _task(name: str, build: Callable[[], nn.Module], load: Callable[..., ClassificationData]) -> Task:
    def build_model() -> nn.Module:
        return build().double()

    return Task(
        name=name,
        description=f"a tiny {name}",
        build_model=build_model,
        load_data=load,
        batch_size=16,  # 37 examples: the last batch of an epoch has 5
        lr=0.01,
        total_steps=40,
        eval_every=20,
        target=0.9,
        period=10,
    )


TASKS = {
    task.name: task
    for task in (
        _task("mlp", lambda: mlp(17, 8, 8, 3), flat_signals),
        _task("cnn", cnn, signals),
        _task("batchnorm_cnn", batchnorm_cnn, signals),
        _task("transformer", TiedTransformer, tokens),
        _task("gpt2", gpt2, tokens),
    )
}


def train_alone(task: Task, seed: int, *, lr: float, weight_decay: float, steps: int) -> tuple[nn.Module, list[float]]:
    """What `ninokit compare` does: torch's AdamW on one network."""
    torch.manual_seed(seed)
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    order = batches(task.load_data(None), task.batch_size, seed)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.loss(model, *next(order))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])
