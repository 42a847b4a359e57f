from collections.abc import Iterator, Mapping

from torch import Tensor

from ninokit.nowcasters import Nowcaster


class Scripted(Nowcaster):
    """A nowcaster that returns what the test says: last state + change, after `distort`."""

    context = 5
    max_horizon = 10
    needs_graph = False

    def __init__(self, change: float = 0.25, distort=None) -> None:
        self.change = change
        self.distort = distort
        self.calls: list[tuple[dict[str, Tensor], int]] = []

    def forecast(self, graph, history: Mapping[str, Tensor], horizon: int) -> Iterator[tuple[str, Tensor]]:
        self.calls.append(({name: states.clone() for name, states in history.items()}, horizon))
        for name, states in history.items():
            prediction = states[-1] + self.change
            yield from [(name, prediction)] if self.distort is None else self.distort(name, prediction)
