"""Nowcasters: what predicts the weights many steps ahead from a few past states."""

from ninokit.nowcasters.base import Nowcaster
from ninokit.nowcasters.linefit import LineFit
from ninokit.nowcasters.loading import load
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.wnn import Wnn

__all__ = ["LineFit", "Nino", "Nowcaster", "Wnn", "load"]
