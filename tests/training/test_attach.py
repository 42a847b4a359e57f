import copy
import gc
import io
import logging
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import ninokit
from ninokit.errors import ArchitectureError, CheckpointError, ConfigError


def parameters_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestJump:
    def test_weights_that_move_evenly_are_predicted_exactly(self):
        model = nn.Linear(3, 2).double()
        start = parameters_of(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        nowcasting = ninokit.attach(
            optimizer, model, ninokit.nowcasters.LineFit(max_horizon=3), period=20, total_steps=100, horizons=[3]
        )
        for _ in range(20):
            optimizer.zero_grad()
            (model.weight.sum() + 2 * model.bias.sum()).backward()  # gradients 1 and 2 at every step
            optimizer.step()
        # 20 steps, and 3 times the 4 steps between two states
        torch.testing.assert_close(model.weight.detach(), start["weight"] - 0.5 * (20 + 3 * 4))
        torch.testing.assert_close(model.bias.detach(), start["bias"] - 0.5 * 2 * (20 + 3 * 4))
        assert [(event.step, event.horizon, event.accepted) for event in nowcasting.events] == [(20, 3, True)]

    def test_the_nowcaster_sees_the_states_of_its_period(self, network, batches, train, scripted):
        nowcaster = scripted()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        seen = []
        optimizer.register_step_post_hook(lambda *_: seen.append(parameters_of(network)))  # before ours: pure steps
        ninokit.attach(optimizer, network, nowcaster, period=10, total_steps=60)
        train(network, optimizer, batches[:20])
        for period, (history, _) in enumerate(nowcaster.calls):
            for context, step in enumerate(range(10 * period + 2, 10 * period + 11, 2)):
                for name, states in history.items():
                    assert torch.equal(states[context], seen[step - 1][name])

    def test_horizons_follow_the_published_schedule(self, network, batches, train, scripted):
        nowcaster = scripted()
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, nowcaster, period=10, total_steps=60)
        train(network, optimizer, batches)
        expected = ninokit.training.published_horizons(10, 6)
        assert [horizon for _, horizon in nowcaster.calls] == expected[:5]  # none within the last period
        assert [event.step for event in nowcasting.events] == [10, 20, 30, 40, 50]
        assert (nowcasting.steps, nowcasting.accepted, nowcasting.refused) == (60, 5, 0)

    def test_asked_for_it_jumps_in_the_last_period(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(
            optimizer, network, scripted(), period=10, total_steps=60, nowcast_in_last_period=True
        )
        train(network, optimizer, batches)
        assert nowcasting.events[-1].step == 60

    def test_the_weights_jump_in_place(self, network, batches, train, scripted):
        pointers = [parameter.data_ptr() for parameter in network.parameters()]
        optimizer = torch.optim.Adam(network.parameters())
        ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:30])
        assert [parameter.data_ptr() for parameter in network.parameters()] == pointers

    def test_detached_the_optimizer_is_as_before(self, network, batches, train, scripted):
        plain, plain_network = None, copy.deepcopy(network)
        plain = torch.optim.Adam(plain_network.parameters())
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:7])
        nowcasting.detach()
        nowcasting.detach()
        train(network, optimizer, batches[7:])
        train(plain_network, plain, batches)
        assert same(parameters_of(network), parameters_of(plain_network))
        assert "ninokit" not in optimizer.state_dict()
        assert nowcasting.events == []

    def test_observers_hear_of_every_nowcast(self, network, batches, train, scripted, monkeypatch):
        registry = ninokit.plugins.Registry()
        heard = []

        class Observer:
            @ninokit.hookimpl
            def ninokit_on_nowcast(self, event):
                heard.append(event)

        registry.register(Observer(), "observer")
        monkeypatch.setattr("ninokit.training.nowcasting.registry", lambda: registry)
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:20])
        assert heard == nowcasting.events
        assert len(heard) == 2


class TestOnlyRealStepsCount:
    def test_gradient_accumulation(self, network, batches, scripted):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=5, total_steps=60)
        for index, (inputs, targets) in enumerate(batches):
            (nn.functional.mse_loss(network(inputs), targets) / 4).backward()
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        assert nowcasting.steps == 15
        assert [event.step for event in nowcasting.events] == [5, 10, 15]

    @pytest.mark.parametrize("fused", [False, True])
    def test_steps_that_a_grad_scaler_skips(self, network, batches, scripted, fused):
        optimizer = torch.optim.AdamW(network.parameters(), fused=fused)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=5, total_steps=60)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1000)
        real = 0
        for index, (inputs, targets) in enumerate(batches[:24]):
            before = parameters_of(network)
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(network(inputs), targets)
            scaler.scale(loss * float("inf") if index % 3 == 0 else loss).backward()
            scaler.step(optimizer)
            scaler.update()
            real += not same(before, parameters_of(network))
        assert real == 16
        assert nowcasting.steps == 16
        assert [event.step for event in nowcasting.events] == [5, 10, 15]

    def test_closures(self, network, batches):
        inputs, targets = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        optimizer = torch.optim.LBFGS(network.parameters(), max_iter=3)
        nowcasting = ninokit.attach(optimizer, network, "linefit", period=5, total_steps=20, horizons=[1])

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(network(inputs), targets)
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(12)]
        assert nowcasting.steps == 12
        assert [event.step for event in nowcasting.events] == [5, 10]
        assert losses[-1] < losses[0] / 2


class TestWorksWith:
    def test_learning_rate_schedulers(self, network, batches, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
        nowcasting = ninokit.attach(optimizer, network, scripted(0.001), period=10, total_steps=60)
        for inputs, targets in batches:
            optimizer.zero_grad()
            nn.functional.mse_loss(network(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**6)
        assert nowcasting.accepted == 5

    def test_parameter_groups(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(
            [{"params": network[0].parameters(), "lr": 0.1}, {"params": network[2].parameters(), "lr": 1e-6}]
        )
        ninokit.attach(optimizer, network, scripted(0.25), period=10, total_steps=60)
        start = parameters_of(network)
        train(network, optimizer, batches[:10])
        torch.testing.assert_close(network[2].weight.detach(), start["2.weight"] + 0.25, atol=1e-4, rtol=0)
        assert not torch.equal(network[0].weight.detach(), start["0.weight"] + 0.25)

    def test_several_optimizers(self, network, batches, scripted):
        """As Muon, which takes matrices alone, and AdamW for the rest."""
        matrices = torch.optim.Muon([network[0].weight, network[2].weight], lr=0.01)
        others = torch.optim.AdamW([network[0].bias, network[2].bias], lr=0.01)
        nowcaster = scripted()
        nowcasting = ninokit.attach([matrices, others], network, nowcaster, period=10, total_steps=60)
        seen = []
        for inputs, targets in batches[:20]:
            nn.functional.mse_loss(network(inputs), targets).backward()
            for optimizer in (matrices, others):
                optimizer.step()
                optimizer.zero_grad()
            seen.append(parameters_of(network))
        assert (nowcasting.steps, nowcasting.accepted) == (20, 2)
        (_, _), (history, _) = nowcaster.calls
        for context, step in enumerate((12, 14, 16, 18)):
            assert same({name: states[context] for name, states in history.items()}, seen[step - 1])
        for name, states in history.items():
            assert torch.equal(seen[-1][name], states[-1] + 0.25)
        assert (others.state_dict()["ninokit"]["steps"], "ninokit" in matrices.state_dict()) == (20, False)

    def test_frozen_parameters_give_context_and_stay(self, network, batches, train, scripted):
        network[0].requires_grad_(False)
        nowcaster = scripted()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        ninokit.attach(optimizer, network, nowcaster, period=10, total_steps=60)
        start = parameters_of(network)
        losses = train(network, optimizer, batches[:30])
        assert torch.equal(network[0].weight, start["0.weight"])
        assert not torch.equal(network[2].weight, start["2.weight"])
        assert set(nowcaster.calls[0][0]) == set(start)
        assert all(torch.isfinite(torch.tensor(losses)))

    def test_parameters_that_the_optimizer_lacks_stay(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network[2].parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        start = parameters_of(network)
        train(network, optimizer, batches[:10])
        assert torch.equal(network[0].weight, start["0.weight"])
        assert nowcasting.accepted == 1

    def test_parameters_frozen_during_training_stay_from_then_on(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:10])
        network[0].requires_grad_(False)
        optimizer.zero_grad()
        frozen = network[0].weight.detach().clone()
        train(network, optimizer, batches[10:20])
        assert torch.equal(network[0].weight, frozen)

    def test_tied_parameters_stay_tied(self, batches, train):
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 1))
        model[4].weight = model[2].weight
        nowcaster = ninokit.nowcasters.Nino(hidden=8)
        nn.init.zeros_(nowcaster.readout[2].weight)  # predicts hardly any change, so that the training goes on well
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        inputs = batches[0][0]
        nowcasting = ninokit.attach(optimizer, model, nowcaster, period=10, total_steps=60, example_inputs=inputs)
        assert "4.weight" not in nowcasting.graph.parameters
        losses = train(model, optimizer, batches)
        assert model[4].weight is model[2].weight
        assert nowcasting.accepted == 5
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("needs_graph", [True, False])
    def test_parameters_that_the_graph_leaves_out_are_not_nowcast(
        self, network, batches, train, scripted, caplog, needs_graph
    ):
        graph = ninokit.encode(network)
        for place in range(7):
            network.register_parameter(f"unused{place}", nn.Parameter(torch.ones(2)))
        network.forward = nn.Sequential(*network).forward
        names = tuple(f"unused{place}" for place in range(7))
        nowcaster = scripted()
        nowcaster.needs_graph = needs_graph
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        plan = {"graph": replace(graph, left_out=names), "period": 10, "total_steps": 60}
        nowcasting = ninokit.attach(optimizer, network, nowcaster, **plan)
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            (
                "WARNING",
                "not nowcast, as the network does not use them: "
                "unused0, unused1, unused2, unused3, unused4, … (7 in all)",
            )
        ]
        train(network, optimizer, batches[:25])
        assert nowcasting.accepted == 2
        assert {*nowcaster.calls[0][0]} == {*graph.parameters}
        assert all(torch.equal(getattr(network, name), torch.ones(2)) for name in names)
        saved = copy.deepcopy(optimizer.state_dict())
        assert saved["ninokit"]["history"]["states"].keys() == {*graph.parameters}
        nowcasting.detach()
        resumed = ninokit.attach(optimizer, network, scripted(), **plan)
        optimizer.load_state_dict(saved)
        train(network, optimizer, batches[25:30])
        assert resumed.accepted == 3

    # torch's own, on Python 3.13.0 alone
    @pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")
    def test_compiled_models(self, network, batches, train, scripted):
        twin = copy.deepcopy(network)
        compiled = torch.compile(network, backend="aot_eager")
        for model, target in ((compiled, network), (twin, twin)):
            optimizer = torch.optim.SGD(target.parameters(), lr=0.1)
            nowcasting = ninokit.attach(optimizer, model, scripted(0.01), period=10, total_steps=60)
            train(model, optimizer, batches)
            assert nowcasting.accepted == 5
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter, twin.get_parameter(name))

    def test_half_precision_training_of_float_states(self, batches, train, network):
        model, optimizer = network.half(), torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, model, "linefit", period=10, total_steps=60)
        train(model, optimizer, [(x.half(), y.half()) for x, y in batches[:20]])
        assert nowcasting.accepted == 2

    def test_a_model_moved_to_another_dtype(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        network.double()
        train(network, optimizer, [(x.double(), y.double()) for x, y in batches[:20]])
        assert nowcasting.accepted == 2

    def test_weights_that_nothing_moves_stay(self, network, batches, train, scripted):
        still, trained = network[2].parameters(), network[0].parameters()
        optimizer = torch.optim.SGD([{"params": still, "lr": 0.0}, {"params": trained, "lr": 0.1}])
        start = parameters_of(network)
        nowcasting = ninokit.attach(optimizer, network, scripted(0.25), period=10, total_steps=60)
        seen = []
        optimizer.register_step_post_hook(lambda *_: seen.append(parameters_of(network)))
        train(network, optimizer, batches[:10])
        assert nowcasting.accepted == 1
        assert torch.equal(network[2].weight, start["2.weight"])
        assert torch.equal(network[2].bias, start["2.bias"])
        assert (seen[-1]["0.weight"] - seen[-2]["0.weight"]).mean() > 0.2

    @pytest.mark.parametrize("history_dtype", [None, torch.bfloat16])
    def test_a_row_that_nothing_trains_stays(self, scripted, history_dtype):
        model = nn.Embedding(5, 3, padding_idx=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        ninokit.attach(optimizer, model, scripted(8.0), period=10, total_steps=60, history_dtype=history_dtype)
        start = model.weight.detach().clone()
        for _ in range(10):
            optimizer.zero_grad()
            model(torch.tensor([0, 1, 2, 4])).sum().backward()
            optimizer.step()
        moved = (model.weight - start).detach()
        assert torch.equal(moved[[0, 3]], torch.zeros(2, 3))
        torch.testing.assert_close(moved[[1, 2, 4]], torch.full((3, 3), -10 + 8.0), atol=1e-4, rtol=0)

    def test_a_nowcaster_of_a_single_state(self, network, batches, train, scripted):
        nowcaster = scripted(0.25)
        nowcaster.context = 1
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        ninokit.attach(optimizer, network, nowcaster, period=10, total_steps=60)
        train(network, optimizer, batches[:10])
        ((history, _),) = nowcaster.calls
        assert same(parameters_of(network), {name: states[-1] + 0.25 for name, states in history.items()})

    def test_an_optimizer_whose_state_is_not_of_parameters_alone(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters())
        train(network, optimizer, batches[:3])
        optimizer.state["temperature"] = torch.ones(2)
        assert ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60).steps == 3

    def test_an_optimizer_that_has_done_steps(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.Adam(network.parameters())
        train(network, optimizer, batches[:15])
        nowcaster = scripted()
        nowcasting = ninokit.attach(optimizer, network, nowcaster, period=10, total_steps=60)
        assert nowcasting.steps == 15
        train(network, optimizer, batches[15:40])
        horizons = ninokit.training.published_horizons(10, 6)
        assert [(event.step, event.horizon) for event in nowcasting.events] == [(30, horizons[2]), (40, horizons[3])]
        assert caplog.messages == []

    def test_parameter_groups_added_later(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network[2].parameters(), lr=0.1)
        ninokit.attach(optimizer, network, scripted(0.25), period=10, total_steps=60)
        optimizer.add_param_group({"params": list(network[0].parameters()), "lr": 1e-6})
        start = parameters_of(network)
        train(network, optimizer, batches[:10])
        torch.testing.assert_close(network[0].weight.detach(), start["0.weight"] + 0.25, atol=1e-4, rtol=0)

    def test_layers_added_later(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        network.append(nn.Linear(1, 1))
        optimizer.add_param_group({"params": list(network[3].parameters())})
        train(network, optimizer, batches[:30])
        assert nowcasting.accepted == 3
        expected = "not nowcast, as they are new to training since attaching: 3.weight, 3.bias; attach again"
        assert caplog.messages.count(expected) == 1

    def test_a_step_that_calls_another_one_counts_once(self, network, batches, train, scripted):
        class Clamped(torch.optim.SGD):
            def step(self, closure=None):
                loss = super().step(closure)
                with torch.no_grad():
                    for group in self.param_groups:
                        for parameter in group["params"]:
                            parameter.clamp_(-10, 10)
                return loss

        torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)  # from now on torch runs hooks on its steps
        optimizer = Clamped(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:40])
        assert nowcasting.steps == 40
        assert [event.step for event in nowcasting.events] == [10, 20, 30, 40]

    @pytest.mark.parametrize("name", ["linefit", "scripted"])
    def test_a_step_under_autocast(self, network, batches, scripted, name):
        """Its products were rounded to bfloat16, and with them all the weights."""

        class Product(scripted):
            def forecast(self, graph, history, horizon):
                for parameter, states in history.items():
                    yield parameter, (torch.full((1, len(states)), 0.2) @ states.flatten(1)).view(states.shape[1:])

        def trained(precise: bool) -> dict[str, torch.Tensor]:
            model = copy.deepcopy(network)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            nowcaster = name if name == "linefit" else Product()
            ninokit.attach(optimizer, model, nowcaster, period=10, total_steps=60)
            for inputs, targets in batches[:10]:
                optimizer.zero_grad()
                nn.functional.mse_loss(model(inputs), targets).backward()
                with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
                    optimizer.step()
            return parameters_of(model)

        assert same(trained(precise=True), trained(precise=False))

    def test_a_compiled_step_does_not_compile_a_nowcast(self, network, batches, scripted):
        from torch._dynamo.utils import counters

        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        step = torch.compile(optimizer.step, backend="eager")
        counters.clear()
        for inputs, targets in batches[:30]:
            optimizer.zero_grad()
            nn.functional.mse_loss(network(inputs), targets).backward()
            step()
        assert nowcasting.accepted == 3
        assert nowcasting.steps == 30
        assert counters["stats"]["unique_graphs"] < 5
        torch.compiler.reset()

    def test_a_frozen_backbone_takes_no_memory(self, network, batches, train):
        backbone = nn.Linear(4, 1000).requires_grad_(False)
        model = nn.ModuleList([backbone, network])
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, model, "linefit", period=10, total_steps=60)
        train(network, optimizer, batches[:9])
        states = optimizer.state_dict()["ninokit"]["history"]["states"]
        assert states.keys() == {f"1.{name}" for name, _ in network.named_parameters()}
        train(network, optimizer, batches[9:10])
        assert nowcasting.accepted == 1

    def test_wrappers_that_are_no_whole_optimizers(self, network, batches, train, scripted):
        class Wrapper(torch.optim.Optimizer):
            """As Accelerate's: a subclass by name, which delegates."""

            def __init__(self, optimizer):
                self.optimizer = optimizer

            def zero_grad(self):
                self.optimizer.zero_grad()

            def step(self, closure=None):
                self.optimizer.step(closure)

        wrapped = Wrapper(torch.optim.Adam(network.parameters()))
        nowcasting = ninokit.attach(wrapped, network, scripted(), period=10, total_steps=60)
        train(network, wrapped, batches[:10])
        assert nowcasting.accepted == 1

    def test_half_precision_weights(self, batches, train, network):
        network.bfloat16()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, "linefit", period=10, total_steps=60)
        train(network, optimizer, [(x.bfloat16(), y.bfloat16()) for x, y in batches])
        assert nowcasting.accepted == 5
        assert all(parameter.dtype == torch.bfloat16 for parameter in network.parameters())


class TestRefusal:
    @pytest.mark.parametrize(
        ("distort", "reason"),
        [
            (
                lambda name, x: [(name, x * float("nan") if name == "2.bias" else x)],
                "prediction of 2.bias: not finite (NaN or infinity)",
            ),
            (
                lambda name, x: [(name, x / 0 if name == "2.weight" else x)],
                "prediction of 2.weight: not finite (NaN or infinity)",
            ),
            (
                lambda name, x: [(name, x[:1] if name == "2.weight" else x)] if name != "0.bias" else [(name, x[:1])],
                "prediction of 0.bias: expected shape (6,), got (1,)",
            ),
            (lambda name, x: [(name, x)] if name != "2.bias" else [], "prediction of 2.bias: missing (1 in all)"),
            (lambda name, x: [(name, x), ("3.gain", x)], "prediction of 3.gain: the model has no such parameter"),
            (lambda name, x: [(name, x), (1 / 0, x)], "ZeroDivisionError: division by zero"),
        ],
    )
    def test_a_bad_prediction_leaves_the_weights(self, network, batches, train, scripted, distort, reason, caplog):
        twin = copy.deepcopy(network)
        plain = torch.optim.Adam(twin.parameters())
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(distort=distort), period=10, total_steps=60)
        with caplog.at_level(logging.WARNING, logger="ninokit"):
            train(network, optimizer, batches[:15])
        train(twin, plain, batches[:15])
        assert same(parameters_of(network), parameters_of(twin))
        assert [(event.accepted, event.reason) for event in nowcasting.events] == [(False, reason)]
        assert (nowcasting.accepted, nowcasting.refused) == (0, 1)
        assert caplog.messages == [f"step 10: nowcast refused, the weights stay: {reason}"]

    def test_a_prediction_that_overflows_the_weights_dtype(self, network, batches, train):
        class Wide(ninokit.nowcasters.LineFit):
            def forecast(self, graph, history, horizon):
                for name, states in history.items():
                    yield name, states[-1].float() + 1e6

        model, optimizer = network.half(), torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, model, Wide(), period=10, total_steps=60)
        train(model, optimizer, [(x.half(), y.half()) for x, y in batches[:10]])
        assert nowcasting.events[0].reason == "prediction of 0.weight: not finite (NaN or infinity)"
        assert all(parameter.isfinite().all() for parameter in model.parameters())

    @pytest.mark.parametrize(
        ("replaced", "names"), [([0, 2], "0.weight, 0.bias, 2.weight, 2.bias"), ([2], "2.weight, 2.bias")]
    )
    def test_layers_replaced_after_attaching(self, network, batches, train, scripted, replaced, names):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        for index in replaced:
            network[index] = copy.deepcopy(network[index])
        optimizer.param_groups[0]["params"] = list(network.parameters())
        train(network, optimizer, batches[:10])
        assert nowcasting.events[0].reason == (
            f"{names}: no longer the model's own since attaching; detach, and attach again"
        )

    @pytest.mark.parametrize(
        ("distort", "got"),
        [
            (lambda name, prediction: [name], "'0.weight'"),
            (lambda name, prediction: [(name, 0.5)], "('0.weight', 0.5)"),
            (lambda name, prediction: [(name, prediction, 1.0)], "('0.weight', tensor("),
        ],
    )
    def test_what_is_no_pair(self, network, batches, train, scripted, distort, got):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(distort=distort), period=10, total_steps=60)
        train(network, optimizer, batches[:10])
        expected = f"predictions: expected pairs of a name and a tensor, got {got}"
        assert nowcasting.events[0].reason.startswith(expected)

    def test_a_block_wrapped_after_attaching(self, network, batches, train, scripted):
        """It has its parameters still, if under other names."""
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        network[0] = nn.Sequential(network[0])
        train(network, optimizer, batches[:10])
        assert nowcasting.accepted == 1

    def test_weights_none_of_which_moves(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        start = parameters_of(network)
        train(network, optimizer, batches[:10])
        assert nowcasting.events[0].reason == "no trained weight has moved in the period, as far as its states tell"
        assert same(parameters_of(network), start)

    def test_an_optimizer_that_gave_the_parameters_away(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        optimizer.param_groups[0]["params"] = [nn.Parameter(torch.ones(1))]
        train(network, optimizer, batches[:10])
        assert nowcasting.events[0].reason == (
            "the optimizer has none of the model's trainable parameters (any more); attach again"
        )

    @pytest.mark.parametrize("step", [2, 6, 10])
    def test_a_state_that_can_not_be_taken(self, network, batches, train, scripted, caplog, monkeypatch, step):
        """As when memory runs out: the training goes on, and later nowcasts come."""
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        take = nowcasting._history.snapshot

        def fail_once():
            if nowcasting.steps == step:
                raise torch.OutOfMemoryError("no memory is left")
            take()

        monkeypatch.setattr(nowcasting._history, "snapshot", fail_once)
        train(network, optimizer, batches[:30])
        reason = f"the state of step {step} could not be taken: OutOfMemoryError: no memory is left"
        assert [(e.step, e.accepted, e.reason) for e in nowcasting.events] == [
            (10, False, reason), (20, True, ""), (30, True, "")
        ]  # fmt: skip
        assert caplog.messages == [f"step 10: nowcast refused, the weights stay: {reason}"]

    def test_an_interrupted_nowcast_leaves_the_weights_and_training_goes_on(self, network, batches, train, scripted):
        def interrupt(name, x):
            if name == "2.weight" and nowcasting.steps == 10:
                raise KeyboardInterrupt
            return [(name, x)]

        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(distort=interrupt), period=10, total_steps=60)
        twin = copy.deepcopy(network)
        train(twin, torch.optim.SGD(twin.parameters(), lr=0.01), batches[:10])
        with pytest.raises(KeyboardInterrupt):
            train(network, optimizer, batches[:10])
        assert same(parameters_of(network), parameters_of(twin))
        train(network, optimizer, batches[10:20])
        assert [(event.step, event.accepted) for event in nowcasting.events] == [(20, True)]

    @pytest.mark.parametrize("nowcaster", ["linefit", "nino"])
    def test_weights_that_are_not_finite(self, network, nowcaster, caplog):
        source = ninokit.nowcasters.Nino(hidden=8) if nowcaster == "nino" else nowcaster
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nowcasting = ninokit.attach(optimizer, network, source, period=10, total_steps=60)
        network[0].weight.data[2, 1] = float("nan")
        for _ in range(10):
            network(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        reason = "history of 0.weight: a weight is not finite (NaN or infinity)"
        assert [event.reason for event in nowcasting.events] == [reason]
        assert caplog.messages == [f"step 10: nowcast refused, the weights stay: {reason}"]


class TestResume:
    @staticmethod
    def start(model_state, optimizer_state, nowcaster):
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, model, nowcaster, period=10, total_steps=60)
        if model_state is not None:
            model.load_state_dict(model_state)
            optimizer.load_state_dict(optimizer_state)
        return model, optimizer, nowcasting

    def test_loaded_in_inference_mode(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:5])
        with torch.inference_mode():
            optimizer.load_state_dict(optimizer.state_dict())
        train(network, optimizer, batches[5:10])
        assert [event.reason for event in nowcasting.events] == [""]

    @pytest.mark.parametrize("stop", [0, 1, 2, 3, 9, 10, 11, 12, 17, 20, 39, 50, 59])
    def test_stopped_anywhere_it_goes_on_to_the_same_bits(self, stop, batches, train):
        torch.manual_seed(0)
        nowcaster = ninokit.nowcasters.Nino(hidden=8)  # any weights do
        initial = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).state_dict()

        whole, optimizer, uninterrupted = self.start(None, None, nowcaster)
        whole.load_state_dict(initial)
        losses = train(whole, optimizer, batches)

        first, optimizer, _ = self.start(None, None, nowcaster)
        first.load_state_dict(initial)
        train(first, optimizer, batches[:stop])
        file = io.BytesIO()
        torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)

        second, optimizer, resumed = self.start(saved["model"], saved["optimizer"], nowcaster)
        assert train(second, optimizer, batches[stop:]) == losses[stop:]
        assert same(parameters_of(second), parameters_of(whole))
        assert resumed.steps == 60
        assert [replace(e, seconds=0) for e in resumed.events] == [replace(e, seconds=0) for e in uninterrupted.events]

    def test_a_plain_optimizer_state_loads(self, network, batches, train, scripted):
        plain = torch.optim.Adam(network.parameters())
        train(network, plain, batches[:3])
        saved = plain.state_dict()
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        optimizer.load_state_dict(saved)
        assert optimizer.state_dict()["state"][0]["step"] == 3
        assert nowcasting.steps == 3  # as Adam has counted
        train(network, optimizer, batches[3:20])
        assert [event.step for event in nowcasting.events] == [20]  # 10 had no whole period before it

    @pytest.mark.parametrize(
        ("damage", "fault"),
        [
            (lambda own: own.pop("history"), "KeyError: 'history'"),
            (lambda own: own["history"].pop("context"), "KeyError: 'context'"),
            (lambda own: own.update(steps="x"), "ValueError: invalid literal for int() with base 10: 'x'"),
            (lambda own: own.update(events=[{}]), "TypeError: NowcastEvent.__init__() missing 5 required"),
            (lambda own: own["history"].update(states=3), "TypeError: argument of type 'int' is not"),
        ],
    )
    def test_a_damaged_history_is_left_out_and_said(self, network, batches, train, scripted, caplog, damage, fault):
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:13])
        saved = copy.deepcopy(optimizer.state_dict())
        damage(saved["ninokit"])
        fresh = torch.optim.Adam(network.parameters())
        resumed = ninokit.attach(fresh, network, scripted(), period=10, total_steps=60)
        fresh.load_state_dict(saved)
        assert resumed.steps == 13  # as Adam has counted
        caplog.clear()
        optimizer.load_state_dict(saved)
        (message,) = caplog.messages
        assert message.startswith(f"the loaded history is left out: it is damaged ({fault}")
        train(network, optimizer, batches[13:30])
        assert [event.step for event in nowcasting.events] == [10, 30]

    def test_a_history_of_another_step_is_left_out_and_said(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:18])
        saved = optimizer.state_dict()
        saved["ninokit"]["steps"] = 12
        optimizer.load_state_dict(saved)
        assert caplog.messages == ["the loaded history is left out: it has 4 states where step 12 has 1"]
        train(network, optimizer, batches[18:40])
        assert [event.step for event in nowcasting.events] == [10, 30]

    def test_a_state_that_could_not_be_taken_is_known_later(self, network, batches, train, scripted, monkeypatch):
        def fail():
            raise MemoryError("none left")

        optimizer = torch.optim.Adam(network.parameters())
        first = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        with monkeypatch.context() as patch:
            patch.setattr(first._history, "snapshot", fail)
            train(network, optimizer, batches[:3])
        train(network, optimizer, batches[3:7])
        saved = copy.deepcopy(optimizer.state_dict())
        other = torch.optim.Adam(network.parameters())
        resumed = ninokit.attach(other, network, scripted(), period=10, total_steps=60)
        other.load_state_dict(saved)
        train(network, other, batches[7:20])
        assert [(event.step, event.reason) for event in resumed.events] == [
            (10, "the state of step 2 could not be taken: MemoryError: none left"),
            (20, ""),
        ]

    def test_states_of_a_period_that_ends_without_a_nowcast(self, network, batches, train, scripted, caplog):
        """Older versions took them."""
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:47])
        saved = copy.deepcopy(optimizer.state_dict())
        saved["ninokit"]["steps"] = 57
        optimizer.load_state_dict(saved)
        assert caplog.messages == []
        assert (nowcasting.steps, len(nowcasting._history)) == (57, 0)

    def test_a_state_that_torch_refuses_changes_nothing(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:6])
        foreign = torch.optim.Adam(network[0].parameters()).state_dict()
        foreign["ninokit"] = {**optimizer.state_dict()["ninokit"], "steps": 99}
        with pytest.raises(ValueError, match="size of optimizer's group"):
            optimizer.load_state_dict(foreign)
        train(network, optimizer, batches[6:10])
        assert (nowcasting.steps, nowcasting.accepted) == (10, 1)

    def test_a_state_with_history_loads_into_a_plain_optimizer(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters())
        ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:3])
        plain = torch.optim.Adam(network.parameters())
        plain.load_state_dict(optimizer.state_dict())
        assert plain.state_dict()["state"][0]["step"] == 3
        assert "ninokit" not in plain.state_dict()

    def test_the_loaded_dictionary_is_left_as_it_was(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters())
        ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:3])
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved)
        assert "ninokit" in saved

    def test_a_history_of_another_setting_is_left_out_and_said(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.Adam(network.parameters())
        ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        train(network, optimizer, batches[:15])
        saved = optimizer.state_dict()
        other = torch.optim.Adam(network.parameters())
        nowcasting = ninokit.attach(other, network, scripted(), period=20, total_steps=60)
        other.load_state_dict(saved)
        assert caplog.messages == ["the loaded history is left out: its period is 10, here 20"]
        assert nowcasting.steps == 15
        train(network, other, batches[15:40])
        assert [event.step for event in nowcasting.events] == [10, 40]  # 20 had no whole period before it


class TestHistorySettings:
    @staticmethod
    def trained(batches, train, nowcaster, saved=None, **settings):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, model, nowcaster, period=10, total_steps=60, **settings)
        if saved is not None:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
        train(model, optimizer, batches)
        saved = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        return saved, nowcasting

    def test_what_the_parameters_are_in_anyway_changes_no_bit(self, batches, train):
        nowcaster = ninokit.nowcasters.LineFit()
        plain, _ = self.trained(batches, train, nowcaster)
        settings = {"history_dtype": torch.float32, "history_device": "cpu"}
        asked, nowcasting = self.trained(batches, train, nowcaster, **settings)
        assert nowcasting.accepted == 5
        assert same(plain["model"], asked["model"])

    def test_the_nowcaster_sees_rounded_states(self, batches, train, scripted):
        exact, rounded = scripted(), scripted()
        self.trained(batches[:10], train, exact)
        self.trained(batches[:10], train, rounded, history_dtype=torch.bfloat16)
        ((expected, _),), ((found, _),) = exact.calls, rounded.calls
        assert same(found, {name: states.bfloat16() for name, states in expected.items()})

    @pytest.mark.parametrize("yields", [torch.bfloat16, torch.float32, torch.float64])
    def test_the_step_goes_on_from_the_exact_weights(self, batches, train, scripted, yields):
        """The state that it started from was rounded, the weights are not."""
        stay, step = scripted(0.0), scripted(distort=lambda name, x: [(name, x.to(yields))])
        before, _ = self.trained(batches[:10], train, stay)
        after, _ = self.trained(batches[:10], train, step, history_dtype=torch.bfloat16)
        for name, weights in before["model"].items():
            rounded = weights.bfloat16()
            moved = (rounded + 0.25).double() - rounded.double()
            torch.testing.assert_close(after["model"][name], (weights + moved).float(), rtol=1e-6, atol=1e-7)

    def test_a_standstill_of_rounded_states_changes_no_bit(self, batches, train, scripted):
        before, _ = self.trained(batches[:10], train, scripted(0.0))
        after, nowcasting = self.trained(batches[:10], train, scripted(0.0), history_dtype=torch.bfloat16)
        assert nowcasting.accepted == 1
        assert same(after["model"], before["model"])

    @pytest.mark.parametrize("stop", [1, 7, 10, 15])
    @pytest.mark.parametrize("history_dtype", [torch.bfloat16, torch.float64])
    def test_stopped_anywhere_it_goes_on_to_the_same_bits(self, batches, train, stop, history_dtype):
        nowcaster, settings = ninokit.nowcasters.LineFit(), {"history_dtype": history_dtype}
        whole, _ = self.trained(batches[:30], train, nowcaster, **settings)
        first, _ = self.trained(batches[:stop], train, nowcaster, **settings)
        second, _ = self.trained(batches[stop:30], train, nowcaster, saved=first, **settings)
        assert same(second["model"], whole["model"])

    @pytest.mark.parametrize(
        ("before", "after"), [(None, torch.bfloat16), (torch.bfloat16, None), (torch.float16, torch.float64)]
    )
    def test_resumed_with_another_dtype(self, batches, train, scripted, before, after, caplog):
        nowcaster = scripted(0.0)
        first, _ = self.trained(batches[:7], train, nowcaster, history_dtype=before)
        _, nowcasting = self.trained(
            batches[7:10], train, nowcaster, saved=first, history_dtype=after, history_device="cpu"
        )
        assert caplog.messages == []
        assert [event.step for event in nowcasting.events] == [10]
        ((history, _),) = nowcaster.calls
        for name, states in history.items():
            taken = first["optimizer"]["ninokit"]["history"]["states"][name]
            assert taken.dtype == (before or torch.float32)
            assert states.dtype == (after or torch.float32)
            assert torch.equal(states[:3], taken.to(states.dtype))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"history_dtype": torch.int8},
                "history_dtype: expected one of torch.float32, torch.bfloat16, torch.float16, torch.float64, got "
                "torch.int8",
            ),
            (
                {"history_device": "gpu"},
                "history_device: expected a device of this machine, such as 'cpu', got 'gpu'",
            ),
        ],
    )
    def test_bad_ones_are_said_when_attaching(self, network, settings, message):
        optimizer = torch.optim.SGD(network.parameters())
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, "linefit", total_steps=10_000, **settings)
        assert "ninokit" not in optimizer.state_dict()


class TestAfterTheLastNowcast:
    def test_no_states_are_taken_or_kept(self, network, batches, train, scripted):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=30)
        train(network, optimizer, batches[:19])
        assert len(optimizer.state_dict()["ninokit"]["history"]["states"]) == 4
        train(network, optimizer, batches[19:60])
        assert [event.step for event in nowcasting.events] == [10, 20]
        assert (len(nowcasting._history), dict(nowcasting._history.states)) == (0, {})

    def test_an_optimizer_near_the_end_is_said(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.Adam(network.parameters())
        train(network, optimizer, batches[:52])
        ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        assert caplog.messages == [
            "no nowcast is left: the optimizer has done 52 steps, and total_steps, which counts these too, is 60"
        ]

    def test_an_optimizer_beyond_the_end_is_said(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.Adam(network.parameters())
        train(network, optimizer, batches[:60])
        message = "no nowcast is left: the optimizer has done 60 steps, and total_steps, which counts these too, is 60"
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60)
        assert caplog.messages == [message]
        saved = optimizer.state_dict()
        nowcasting.detach()
        fresh = torch.optim.Adam(network.parameters())
        ninokit.attach(fresh, network, scripted(), period=10, total_steps=60)
        fresh.load_state_dict(saved)
        assert caplog.messages == [message, message]


class TestBadSettings:
    def test_a_model_that_no_architecture_matches(self):
        model = nn.Bilinear(2, 3, 4)
        optimizer = torch.optim.SGD(model.parameters())
        needs = {"traced": "needs example inputs to run the network; pass example_inputs=…"}
        reasons = "".join(f"  {n}: {needs.get(n, 'does not match')}\n" for n in ninokit.architectures())
        message = (
            f"no architecture encodes Bilinear:\n{reasons}Build its graph with "
            f"ninokit.graph.GraphBuilder and pass it to attach(graph=…), or register an architecture."
        )
        with pytest.raises(ArchitectureError) as caught:
            ninokit.attach(optimizer, model, ninokit.nowcasters.Wnn(hidden=8), period=10, total_steps=60)
        assert str(caught.value) == message

    def test_without_a_graph_linefit_serves_it(self):
        model = nn.Bilinear(2, 3, 4)
        optimizer = torch.optim.SGD(model.parameters())
        assert ninokit.attach(optimizer, model, "linefit", total_steps=6000).graph is None

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"horizons": [3]}, "horizons: expected at most 2, the nowcaster's, got 3"),
            ({"period": 3}, "period: expected at least 5 steps, one a state of the context, got 3"),
            ({"period": 0}, "period: expected at least 5 steps, one a state of the context, got 0"),
            ({"total_steps": 0}, "total_steps: expected at least 1, got 0"),
        ],
    )
    def test_out_of_range(self, network, settings, message):
        optimizer = torch.optim.SGD(network.parameters())
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, "linefit", **{"total_steps": 100, "period": 10, **settings})
        assert "ninokit" not in optimizer.state_dict()

    def test_parameters_of_the_same_memory(self, network):
        """The older way of tying: both would be written, and a refused jump could not be undone."""
        model = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)])
        model[1].weight.data = model[0].weight.data
        optimizer = torch.optim.SGD(model.parameters())
        message = (
            "model: 0.weight and 1.weight are two parameters of the same memory; tie them by making them one, as "
            "module.weight = other.weight does"
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, model, "linefit", total_steps=10_000)
        model[1].weight = model[0].weight
        ninokit.attach(optimizer, model, "linefit", total_steps=10_000)

    @pytest.mark.parametrize(("name", "value"), [("context", 0), ("max_horizon", None), ("max_horizon", 2.5)])
    def test_a_nowcaster_without_numbers(self, network, scripted, name, value):
        nowcaster = scripted()
        setattr(nowcaster, name, value)
        message = f"nowcaster: expected {name} of Scripted from 1 up, got {value!r}"
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(torch.optim.SGD(network.parameters()), network, nowcaster, total_steps=10_000)

    def test_an_optimizer_that_has_not_counted_its_steps(self, network, batches, train, scripted, caplog):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        train(network, optimizer, batches[:20])
        nowcasting = ninokit.attach(optimizer, network, scripted(), period=10, total_steps=60, horizons=[4, 3, 2, 1])
        assert caplog.messages == [
            "SGD has done steps, and does not count them; if they are among total_steps, set the handle's steps to "
            "their number"
        ]
        fresh = torch.optim.Adagrad(network.parameters())  # which has a state, and a count of 0, from the start
        ninokit.attach(fresh, network, scripted(), period=10, total_steps=60)
        assert len(caplog.messages) == 1
        nowcasting.steps = 20
        train(network, optimizer, batches[20:])
        assert [(event.step, event.horizon) for event in nowcasting.events] == [(30, 2), (40, 1), (50, 1)]

    def test_a_second_nowcasting(self, network):
        optimizer = torch.optim.SGD(network.parameters())
        other = torch.optim.SGD(network.parameters())
        message = "optimizer: a nowcasting is attached to it already; call its detach() first"
        for together in (optimizer, [optimizer, other], [other, optimizer]):
            first = ninokit.attach(together, network, "linefit", total_steps=10_000)
            with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
                ninokit.attach(optimizer, network, "linefit", total_steps=10_000)
            first.detach()
        ninokit.attach(optimizer, network, "linefit", total_steps=10_000)

    def test_an_optimizer_is_forgotten_with_its_nowcasting(self, batches, train):
        """At once: the garbage collector may come when a GPU's memory has long been full."""
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ninokit.attach(optimizer, model, "linefit", period=10, total_steps=60)
        train(model, optimizer, batches[:12])
        gone = [weakref.ref(optimizer), weakref.ref(model.weight)]
        gc.collect()
        gc.disable()
        del optimizer, model
        found = [ref() for ref in gone]
        gc.enable()
        assert found == [None, None]

    def test_a_training_too_short_for_any_nowcast_is_said(self, network, caplog):
        optimizer = torch.optim.SGD(network.parameters())
        ninokit.attach(optimizer, network, "linefit", period=1000, total_steps=1500)
        assert caplog.messages == ["a period of 1000 steps leaves no nowcast in 1500 steps; shorten it"]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"period": 1e3}, "period: expected whole numbers, got 1000.0"),
            ({"horizons": [1.5]}, "horizons: expected whole numbers, got 1.5"),
            ({"horizons": 3}, "horizons: expected a list of numbers from 1 up, one a nowcast, got 3"),
            ({"horizons": []}, "horizons: expected numbers from 1 up, one a nowcast, got []"),
            ({"graph": 3}, "graph: expected a NeuralGraph, as encode returns it, or None, got 3"),
            ({"nowcaster": 3}, "nowcaster: expected a Nowcaster, a name, a path or None, got 3"),
            ({"model": "network"}, "model: expected a torch.nn.Module, got 'network'"),
            ({"optimizer": None}, "optimizer: expected a torch.optim.Optimizer, got None"),
            ({"optimizer": []}, "optimizer: expected a torch.optim.Optimizer, or several, got none"),
            ({"optimizer": ["adam"]}, "optimizer: expected a torch.optim.Optimizer, got 'adam'"),
        ],
    )
    def test_arguments_of_another_type(self, network, settings, message):
        defaults = {"optimizer": torch.optim.SGD(network.parameters()), "model": network, "total_steps": 10_000}
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(**{**defaults, **settings})

    def test_numbers_of_numpy_are_taken_and_saved(self, network, batches, train, scripted):
        optimizer = torch.optim.Adam(network.parameters())
        plan = {"period": np.int64(10), "total_steps": np.int32(60), "horizons": np.array([4, 3])}
        nowcasting = ninokit.attach(optimizer, network, scripted(), **plan)
        train(network, optimizer, batches[:30])
        assert [event.horizon for event in nowcasting.events] == [4, 3, 3]
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        assert torch.load(file, weights_only=True)["ninokit"]["steps"] == 30

    def test_complex_parameters(self, network):
        network.register_parameter("phase", nn.Parameter(torch.ones(2, dtype=torch.complex64)))
        optimizer = torch.optim.SGD(network.parameters())
        message = (
            "model: phase is complex, and Wnn predicts real numbers; use 'linefit', or a model whose real and "
            "imaginary parts are parameters of their own"
        )
        wnn = ninokit.nowcasters.Wnn(hidden=8)
        wnn.needs_graph = False
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, wnn, total_steps=10_000)
        ninokit.attach(optimizer, network, "linefit", total_steps=10_000)

    def test_weights_of_eight_bits(self, network):
        network[0].weight = nn.Parameter(network[0].weight.to(torch.float8_e4m3fn), requires_grad=False)
        optimizer = torch.optim.SGD(network.parameters())
        message = (
            "model: 0.weight: expected a dtype of 16 bits or more, got torch.float8_e4m3fn; attach before quantizing"
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, "linefit", total_steps=10_000)

    def test_an_optimizer_of_another_model(self, network):
        optimizer = torch.optim.SGD(nn.Linear(4, 6).parameters())
        message = (
            "optimizer: none of its parameters is the model's; make it from this model's parameters, after moving "
            "the model to its device"
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, "linefit", total_steps=100)

    def test_a_graph_that_leaves_out_what_the_model_does_not_have(self, network):
        graph = replace(ninokit.encode(network), left_out=("3.weight",))
        optimizer = torch.optim.SGD(network.parameters())
        message = "graph: its parameters are not the model's; pass the graph of this very model"
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, "linefit", graph=graph, total_steps=100)

    def test_a_graph_of_another_model(self, network):
        graph = ninokit.encode(nn.Linear(4, 6))
        optimizer = torch.optim.SGD(network.parameters())
        message = "graph: its parameters are not the model's; pass the graph of this very model"
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, ninokit.nowcasters.Wnn(hidden=8), total_steps=100, graph=graph)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "nano",
                "nowcaster: expected one of the families ['linefit', 'nino', 'published_nino', 'wnn'], a name of the "
                "zoo, a source such as local-dir:FOLDER, or the path of a .pt checkpoint; got 'nano'. Did you mean "
                "'nino'?",
            ),
            (
                "nino",
                "nowcaster: 'nino' has weights to learn, so its name alone is not enough; give a name of the zoo "
                "(`ninokit zoo list` shows them) or the path of a checkpoint",
            ),
        ],
    )
    def test_an_unknown_nowcaster(self, network, name, message):
        optimizer = torch.optim.SGD(network.parameters())
        with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
            ninokit.attach(optimizer, network, name, total_steps=100)
