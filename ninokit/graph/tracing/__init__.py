"""The tracer: neural graphs of networks that nobody wrote an encoder for."""

from ninokit.graph.tracing.trace import trace

__all__ = ["trace"]
