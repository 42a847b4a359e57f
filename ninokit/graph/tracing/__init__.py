"""The tracer: neural graphs of networks that nobody wrote an encoder for."""

from ninokit.graph.tracing.axes import Axes
from ninokit.graph.tracing.call import Call, Rule
from ninokit.graph.tracing.trace import trace

__all__ = ["Axes", "Call", "Rule", "trace"]
