"""Forecasts on the graphs of transformers: streamed as in message passing, and attached to a training."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformer_networks import TOKENS, huggingface, tokens

import ninokit
from ninokit_transformers.encoder import encode


def history_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.randn(5, *p.shape, dtype=torch.float64) for name, p in model.named_parameters()}


@pytest.mark.usefixtures("dgl_installed")
@pytest.mark.parametrize(
    ("family", "kind"),
    [("GPT2", "LMHeadModel"), ("Llama", "ForCausalLM"), ("Mixtral", "ForCausalLM"), ("T5", "ForConditionalGeneration")],
)
def test_streamed_as_in_message_passing(family, kind):
    model = huggingface(family, kind)
    graph, history = encode(model), history_of(model)
    nino = ninokit.nowcasters.Nino(hidden=16).double()
    expected = dict(nino.forecast_with_dgl(graph, history, 7))
    for name, prediction in nino.forecast(graph, history, 7):
        torch.testing.assert_close(prediction, expected.pop(name), rtol=1e-8, atol=1e-8)
    assert not expected


def test_training_goes_on_from_a_nowcast():
    model = huggingface("Llama", "ForCausalLM")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    nowcaster = ninokit.nowcasters.Nino(hidden=8)
    nowcasting = ninokit.attach(optimizer, model, nowcaster, period=5, total_steps=50, graph=encode(model))
    batch = tokens(4)
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(input_ids=batch).logits
        nn.functional.cross_entropy(logits[:, :-1].reshape(-1, TOKENS), batch[:, 1:].reshape(-1)).backward()
        optimizer.step()
    assert nowcasting.events
    assert all(parameter.isfinite().all() for parameter in model.parameters())
