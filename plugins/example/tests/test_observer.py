"""The observer's log."""

from __future__ import annotations

import json

import pytest
import torch

import ninokit
from ninokit_siren.observer import LOG


def train(steps: int) -> ninokit.Nowcasting:
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nowcasting = ninokit.attach(optimizer, model, "linefit", period=10, total_steps=100)
    for _ in range(steps):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return nowcasting


@pytest.mark.parametrize(("steps", "nowcasts"), [(9, []), (30, [10, 20, 30])])
def test_a_line_a_nowcast(tmp_path, monkeypatch, steps, nowcasts):
    log = tmp_path / "nowcasts.jsonl"
    monkeypatch.setenv(LOG, str(log))
    events = train(steps).events
    lines = log.read_text().splitlines() if log.exists() else []
    assert (
        [json.loads(line)["step"] for line in lines] == [event.step for event in events] == [10, 20, 30][: steps // 10]
    )


def test_no_log_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(LOG, raising=False)
    monkeypatch.chdir(tmp_path)
    assert len(train(20).events) == 2
    assert list(tmp_path.iterdir()) == []
