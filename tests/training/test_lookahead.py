"""timm's Lookahead with nowcasting, against its formula by hand."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn

import ninokit
from ninokit.errors import ConfigError

pytest.importorskip("timm")
from timm.optim import Lookahead

RATE, EVERY, PERIOD, TOTAL, CHANGE = 0.05, 4, 10, 60, 0.25


@pytest.fixture(autouse=True)
def _fresh_class(monkeypatch):
    """Attaching changes the class once a process, and so does the first zero_grad."""
    step = Lookahead.step
    monkeypatch.setattr(Lookahead, "step", step.__wrapped__ if getattr(step, "hooked", False) else step)


def by_hand(network, batches) -> tuple[list[float], list[torch.Tensor]]:
    """Gradient descent; every 4 steps half of the way back to the slow weights; a jump of both every 10 steps."""
    weights = list(network.parameters())
    slow = None
    losses = []
    for step, (inputs, targets) in enumerate(batches, start=1):
        loss = nn.functional.mse_loss(network(inputs), targets)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(RATE * gradient)
            if step % EVERY == 0:
                slow = slow or [w.clone() for w in weights]  # timm's slow weights begin at the first of these steps
                slow = [s + 0.5 * (w - s) for s, w in zip(slow, weights, strict=True)]
                for weight, value in zip(weights, slow, strict=True):
                    weight.copy_(value)
            if step % PERIOD == 0 and step <= TOTAL - PERIOD:
                for weight in weights:
                    weight.add_(CHANGE)
                slow = [w.clone() for w in weights]
    return losses, weights


def test_trained_as_by_hand(network, batches, train, scripted):
    losses, weights = by_hand(copy.deepcopy(network), batches)
    optimizer = Lookahead(torch.optim.SGD(network.parameters(), lr=RATE), alpha=0.5, k=EVERY)
    nowcasting = ninokit.attach(optimizer, network, scripted(CHANGE), period=PERIOD, total_steps=TOTAL)
    assert train(network, optimizer, batches) == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(list(network.parameters()), weights)
    assert [event.step for event in nowcasting.events] == [10, 20, 30, 40, 50]


def test_states_are_taken_after_the_slow_weights_are_mixed_in(network, batches, train, scripted):
    nowcaster = scripted()
    optimizer = Lookahead(torch.optim.SGD(network.parameters(), lr=RATE), k=2)
    ninokit.attach(optimizer, network, nowcaster, period=PERIOD, total_steps=TOTAL)
    seen = []
    for batch in batches[:9]:
        train(network, optimizer, [batch])
        seen.append(network[0].weight.detach().clone())
    train(network, optimizer, batches[9:10])
    assert torch.equal(nowcaster.calls[0][0]["0.weight"][:4], torch.stack(seen[1::2]))


def test_slow_weights_of_others_stay(network, batches, train, scripted):
    other = nn.Parameter(torch.zeros(3))
    optimizer = Lookahead(torch.optim.SGD([*network.parameters(), other], lr=RATE), k=EVERY)
    ninokit.attach(optimizer, network, scripted(), period=PERIOD, total_steps=TOTAL)
    optimizer.register_step_pre_hook(lambda *_: setattr(other, "grad", torch.ones(3)))
    train(network, optimizer, batches[:10])
    state = optimizer.state_dict()["state"]
    assert not torch.equal(state[4]["lookahead_slow_buff"], other)
    assert torch.equal(state[0]["lookahead_slow_buff"], network[0].weight)


@pytest.mark.parametrize("stop", [3, 10, 11, 17, 30])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(network, batches, train, scripted, stop):
    def start(saved=None):
        model = copy.deepcopy(network)
        optimizer = Lookahead(torch.optim.AdamW(model.parameters(), lr=0.01), k=EVERY)
        nowcasting = ninokit.attach(optimizer, model, scripted(), period=PERIOD, total_steps=TOTAL)
        if saved is not None:
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        return model, optimizer, nowcasting

    whole, optimizer, _ = start()
    losses = train(whole, optimizer, batches)
    first, optimizer, _ = start()
    train(first, optimizer, batches[:stop])
    second, optimizer, nowcasting = start(copy.deepcopy((first.state_dict(), optimizer.state_dict())))
    assert train(second, optimizer, batches[stop:]) == losses[stop:]
    assert nowcasting.steps == 60


def test_detached_it_is_as_before(network, batches, train, scripted):
    twin = copy.deepcopy(network)
    plain = Lookahead(torch.optim.SGD(twin.parameters(), lr=RATE), k=EVERY)
    optimizer = Lookahead(torch.optim.SGD(network.parameters(), lr=RATE), k=EVERY)
    ninokit.attach(optimizer, network, scripted(), period=PERIOD, total_steps=TOTAL).detach()
    assert train(network, optimizer, batches[:20]) == train(twin, plain, batches[:20])
    assert "ninokit" not in optimizer.state_dict()


def test_a_scheduler_made_before_is_refused_and_one_made_after_works(network, batches, train, scripted):
    optimizer = Lookahead(torch.optim.SGD(network.parameters(), lr=RATE), k=EVERY)
    torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
    message = (
        "optimizer: a learning rate scheduler was made before, and holds on to a step of Lookahead that runs no "
        "hooks; make the optimizer anew, attach, then make the scheduler"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ninokit.attach(optimizer, network, "linefit", period=PERIOD, total_steps=TOTAL)
    optimizer = Lookahead(torch.optim.SGD(network.parameters(), lr=RATE), k=EVERY)
    nowcasting = ninokit.attach(optimizer, network, scripted(), period=PERIOD, total_steps=TOTAL)
    torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
    train(network, optimizer, batches[:12])
    assert nowcasting.accepted == 1
