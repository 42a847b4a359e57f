"""Data-parallel training, in two processes that talk over gloo."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from scripted_nowcaster import Scripted
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

import ninokit
from ninokit.errors import ConfigError

ELSEWHERE = "another process of the data-parallel training had to refuse its nowcast; see its log"
FAULTS = {
    "error": "OutOfMemoryError: no memory is left",
    "not finite": "prediction of 2.weight: not finite (NaN or infinity)",
    "state": "the state of step 4 could not be taken: OutOfMemoryError: no memory is left",
    "rounding": "",
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


def join(rank: int) -> list[str]:
    """Inside ``join``, where the second process is done earlier."""
    wrapped = DistributedDataParallel(network())
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01)
    nowcasting = ninokit.attach(optimizer, wrapped, Scripted(), period=10, total_steps=60)
    with wrapped.join():
        for _ in range(25 if rank == 0 else 15):
            optimizer.zero_grad()
            wrapped(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    return [event.reason for event in nowcasting.events]


def train(rank: int, fault: str) -> dict:
    """Thirty steps, a nowcast every ten, the first of which is another one, or none, in the second process."""
    model = network()
    model[0].weight = nn.Parameter(torch.randn(6, 8)[:, ::2])  # with gaps in memory
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=0.01)

    def distort(name, prediction):
        if rank == 1 and nowcasting.steps == 10:
            if fault == "error" and name == "2.weight":
                raise torch.OutOfMemoryError("no memory is left")
            if fault == "not finite" and name == "2.weight":
                prediction = prediction * torch.nan
            if fault == "rounding":
                prediction = prediction + 1e-3
        return [(name, prediction)]

    nowcasting = ninokit.attach(optimizer, wrapped, Scripted(0.1, distort), period=10, total_steps=60, average=5)
    take = nowcasting._history.snapshot

    def snapshot():
        if fault == "state" and rank == 1 and nowcasting.steps == 4:
            raise torch.OutOfMemoryError("no memory is left")
        take()

    nowcasting._history.snapshot = snapshot
    generator = torch.Generator().manual_seed(rank)
    for _ in range(30):
        optimizer.zero_grad()
        wrapped(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()
    averaged = nowcasting.averaged_state_dict()
    return {
        "weights": wrapped.module.state_dict(),
        "averaged": averaged,
        "events": [(e.step, e.reason) for e in nowcasting.events],
    }


def shard() -> str:
    """What is said of parameters that are sharded."""
    model = network()
    fully_shard(model, mesh=DeviceMesh("cpu", [0, 1]))
    with pytest.raises(ConfigError) as caught:
        ninokit.attach(torch.optim.SGD(model.parameters()), model, "linefit", total_steps=10_000)
    return str(caught.value)


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=timeout)
    results = {fault: train(rank, fault) for fault in FAULTS} | {"sharded": shard(), "joined": join(rank)}
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict]:
    """What the two have found."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(process, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("fault", FAULTS)
def test_all_processes_jump_or_none_and_to_the_same_weights(processes, fault):
    first, second = (found[fault] for found in processes)
    for weights in ("weights", "averaged"):
        assert all(torch.equal(first[weights][name], second[weights][name]) for name in first[weights])
    reason = FAULTS[fault]
    assert second["events"] == [(10, reason), (20, ""), (30, "")]
    assert first["events"] == [(10, ELSEWHERE if reason else ""), (20, ""), (30, "")]


def test_sharded_parameters_are_refused_when_attaching(processes):
    assert [found["sharded"] for found in processes] == 2 * [
        "model: 0.weight is sharded over several processes, as fully_shard does it; nowcasting needs whole "
        "parameters, as DistributedDataParallel has them"
    ]


def test_processes_that_end_apart_do_not_jump(processes):
    reason = "inside DistributedDataParallel's join the processes can't agree on a jump; give all as many batches"
    assert [found["joined"] for found in processes] == [[reason, reason], [reason]]
