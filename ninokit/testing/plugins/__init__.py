"""The conformance kit: all that a plugin promises, checked on its own examples."""

from ninokit.testing.plugins.findings import Finding, Outcome, PluginReport
from ninokit.testing.plugins.kit import check_plugin

__all__ = ["Finding", "Outcome", "PluginReport", "check_plugin"]
