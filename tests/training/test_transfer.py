"""Copies off a CUDA device: on a GPU where there is one, and everywhere with streams that a test can hold back."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import ninokit
from ninokit.training import transfer as module
from ninokit.training.history import StateHistory
from ninokit.training.transfer import Transfer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class HeldBack(TorchDispatchMode):
    """Puts copies off until the stream is waited for."""

    def __init__(self, stream) -> None:
        super().__init__()
        self.stream = stream

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is torch.ops.aten.copy_.default, f"{function} on the side stream"
        target, _, non_blocking = args
        assert non_blocking
        self.stream.log.append("copy")
        self.stream.outstanding.append(args)
        return target


class FakeStream:
    def __init__(self, device) -> None:
        self.log: list[object] = []
        self.outstanding: list[tuple] = []

    def wait_stream(self, other) -> None:
        self.log.append(f"wait for {other}")

    def synchronize(self) -> None:
        while self.outstanding:
            target, source, _ = self.outstanding.pop(0)
            target.copy_(source)


@pytest.fixture
def streams(monkeypatch) -> list[FakeStream]:
    """All side streams made; every copy counts as one off a GPU."""
    made: list[FakeStream] = []

    def make(device):
        made.append(FakeStream(device))
        return made[-1]

    @contextmanager
    def run_on(stream):
        with HeldBack(stream):
            yield

    monkeypatch.setattr(module, "_leaves_cuda", lambda source, target: True)
    monkeypatch.setattr(torch.cuda, "Stream", make)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the current stream of {device}")
    monkeypatch.setattr(torch.cuda, "stream", run_on)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, s: s.log.append(("record", tensor.dtype)))
    return made


def test_the_source_may_be_written_while_its_copy_is_outstanding(streams):
    source, target, transfer = torch.ones(3), torch.zeros(3), Transfer()
    transfer.copy(source, target)
    source.fill_(7)
    assert target.tolist() == [0, 0, 0]
    transfer.wait()
    assert target.tolist() == [1, 1, 1]


def test_the_side_stream_starts_after_the_clone_and_holds_it(streams):
    transfer, source, target = Transfer(), torch.randn(4, 3).T, torch.zeros(3, 4, dtype=torch.bfloat16)
    transfer.copy(source, target)
    (stream,) = streams
    assert stream.log == [("record", torch.bfloat16), "wait for the current stream of cpu", "copy"]
    ((_, staged, _),) = stream.outstanding  # in the target's dtype and layout, else the copy would want a temporary
    assert staged.dtype == torch.bfloat16
    assert staged.is_contiguous()


def test_copies_arrive_in_order_on_one_stream_a_device(streams):
    transfer, target = Transfer(), torch.zeros(2)
    for value in (1.0, 2.0, 3.0):
        transfer.copy(torch.full((2,), value), target)
    transfer.wait()
    assert target.tolist() == [3, 3]
    assert len(streams) == 1


@pytest.mark.parametrize(
    ("source", "target", "pinned"), [("cuda:1", "cpu", True), ("cuda", "cuda", False), ("cpu", "cpu", False)]
)
def test_memory_is_pinned_for_copies_off_a_gpu_alone(source, target, pinned):
    asked = {}
    tensor = SimpleNamespace(device=torch.device(source), new_empty=lambda shape, **how: asked.update(how, shape=shape))
    Transfer().allocate(tensor, (5, 2), torch.bfloat16, torch.device(target))
    assert asked == {
        "shape": (5, 2),
        "dtype": torch.bfloat16,
        "device": torch.device(target),
        "pin_memory": pinned,
    }


def test_other_copies_are_there_at_once():
    source, target, transfer = torch.full((3,), 1 / 3), torch.zeros(3, dtype=torch.bfloat16), Transfer()
    transfer.copy(source, target)
    assert torch.equal(target, source.bfloat16())
    transfer.wait()


@needs_cuda
class TestOnCuda:
    def test_a_snapshot_does_not_wait_for_the_device(self):
        weight = torch.ones(1000, 1000, device="cuda")
        history = StateHistory({"weight": weight}, context=3, device="cpu")
        history.snapshot()  # allocates
        torch.cuda.synchronize()
        torch.cuda._sleep(10**9)  # of the device's clock
        weight.fill_(2)
        history.snapshot()
        weight.fill_(3)
        assert not torch.cuda.current_stream().query()
        history.snapshot()
        weight.fill_(4)
        states = history.states["weight"]
        assert states.is_pinned()
        assert states[:, 0, 0].tolist() == [1, 2, 3]
        assert states[:, -1, -1].tolist() == [1, 2, 3]

    @pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
    def test_on_the_host_are_the_same_bits(self, dtype):
        parameters = {"a": torch.randn(30, 20, device="cuda"), "b": torch.randn(20, 30, device="cuda").half().T}
        histories = [StateHistory(parameters, 4, dtype, device) for device in (None, "cpu")]
        for _ in range(4):
            for history in histories:
                history.snapshot()
            for parameter in parameters.values():
                parameter.normal_()
        on_device, on_host = (history.states for history in histories)
        for name in parameters:
            assert on_host[name].device.type == "cpu"
            assert torch.equal(on_host[name], on_device[name].cpu())

    @pytest.mark.parametrize("dtype", [None, torch.bfloat16])
    def test_a_training_with_its_history_on_the_host(self, dtype, batches, train):
        found = []
        for device in (None, "cpu"):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).cuda()
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            settings = {"period": 10, "total_steps": 60, "history_dtype": dtype, "history_device": device}
            nowcasting = ninokit.attach(optimizer, model, "linefit", **settings)
            train(model, optimizer, [(x.cuda(), y.cuda()) for x, y in batches[:15]])
            assert nowcasting.accepted == 1
            found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        torch.testing.assert_close(*found)
