"""The proof that an encoder is right, for the tests of plugins; it needs no test framework."""

from ninokit.testing.check import check_encoding
from ninokit.testing.reports import EncodingReport

__all__ = ["EncodingReport", "check_encoding"]
