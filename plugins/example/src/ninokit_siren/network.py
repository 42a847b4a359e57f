"""Networks of sine layers that map coordinates to values (Sitzmann et al. 2020, arXiv 2006.09661).

Shape legend: points = any leading dimensions; hidden = neurons of a layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ninokit_siren.operators import sine

__all__ = ["SineLayer", "Siren"]


class SineLayer(nn.Module):
    """A linear layer with a sine: ``sin(omega (W x + b + shift))``.

    Args:
        in_features: numbers that it reads, at least 1.
        out_features: its neurons, at least 1.
        omega: factor in the sine, above 0; how fast the functions are that it can represent.
        first: whether it reads the coordinates alone, which sets its initial weights (equation 5 there, and section
            3.2).
    """

    def __init__(self, in_features: int, out_features: int, omega: float = 30.0, *, first: bool = False) -> None:
        super().__init__()
        self.omega = omega
        bound = 1 / in_features if first else math.sqrt(6 / in_features) / omega
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: shape (points, in_features).
            shift: shape (out_features,).

        Returns:
            Numbers from -1 to 1, shape (points, out_features).
        """
        return sine(functional.linear(x, self.weight, self.bias) + shift, self.omega)


class Siren(nn.Module):
    """Sine layers in a chain, one of which reads the coordinates once more, then a linear readout.

    Every layer has a vector of shifts; together they are one parameter, the modulation, which tells apart the signals
    that networks of the same weights represent (Dupont et al. 2022, arXiv 2201.12204).

    Args:
        in_features: coordinates of a point.
        hidden: neurons of each sine layer.
        depth: sine layers, at least 1.
        out_features: values at a point.
        skip: the layer that reads the coordinates beside the layer before, from 1 to ``depth - 1``; None for none.
        omega: see `SineLayer`.

    Raises:
        ValueError: if there is no such layer.

    Example:
        >>> import torch
        >>> Siren(2, 16, depth=3, out_features=1)(torch.rand(5, 2)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int = 2,
        hidden: int = 32,
        depth: int = 4,
        out_features: int = 3,
        *,
        skip: int | None = 2,
        omega: float = 30.0,
    ) -> None:
        super().__init__()
        if skip is not None and not 1 <= skip < depth:
            raise ValueError(f"Siren: expected skip to be None or from 1 to {depth - 1}, got {skip}")
        self.in_features = in_features
        self.skip = skip
        widths = [in_features] + [hidden + (in_features if number == skip else 0) for number in range(1, depth)]
        self.layers = nn.ModuleList(
            SineLayer(width, hidden, omega, first=number == 0) for number, width in enumerate(widths)
        )
        self.modulation = nn.Parameter(torch.zeros(depth, hidden))
        self.readout = nn.Linear(hidden, out_features)

    def forward(self, coordinates: Tensor) -> Tensor:
        """The values at some points.

        Args:
            coordinates: shape (points, in_features), from -1 to 1.

        Returns:
            Shape (points, out_features).
        """
        x = coordinates
        for number, layer in enumerate(self.layers):
            if number == self.skip:
                x = torch.cat([x, coordinates], dim=-1)
            x = layer(x, self.modulation[number])
        return self.readout(x)
