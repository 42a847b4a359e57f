"""The proof that an encoder is right, for the tests of plugins; it needs no test framework."""

from ninokit.testing.check import check_encoding
from ninokit.testing.conformance import conformance_checks
from ninokit.testing.reports import EncodingReport
from ninokit.testing.round_trips import check_round_trip

__all__ = ["EncodingReport", "check_encoding", "check_round_trip", "conformance_checks"]
