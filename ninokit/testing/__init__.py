"""The proof that an encoder is right, and the checks of a whole plugin; they need no test framework."""

from ninokit.testing.check import check_encoding
from ninokit.testing.conformance import conformance_checks
from ninokit.testing.plugins import PluginReport, check_plugin
from ninokit.testing.reports import EncodingReport
from ninokit.testing.round_trips import check_round_trip

__all__ = [
    "EncodingReport",
    "PluginReport",
    "check_encoding",
    "check_plugin",
    "check_round_trip",
    "conformance_checks",
]
