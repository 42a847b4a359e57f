"""What a check is, and what it finds."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ninokit.errors import DependencyError, NinokitError

__all__ = ["Check", "CheckError", "Finding", "NotApplicableError", "Outcome", "PluginReport", "run_check"]


class CheckError(NinokitError):
    """A plugin does not do what it promises; the message is the finding."""


class NotApplicableError(NinokitError):
    """There is nothing to check here; the message says why."""


class Outcome(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One thing to check.

    Args:
        title: what is checked.
        run: checks it, and returns in a few words what was seen. It raises if something is wrong.
    """

    title: str
    run: Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """How a check ended.

    Args:
        title: what was checked.
        outcome: how it ended.
        detail: what was seen, what is wrong, or why it was skipped.
    """

    title: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class PluginReport:
    """What the conformance kit found out about a plugin; as text, a table.

    Args:
        plugin: its name, distribution and version.
        findings: in the order of the checks.
    """

    plugin: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(finding.outcome is not Outcome.FAILED for finding in self.findings)

    def __str__(self) -> str:
        width = max((len(finding.title) for finding in self.findings), default=0)
        lines = [self.plugin, *(_line(finding, width) for finding in self.findings)]
        counts = Counter(finding.outcome for finding in self.findings)
        return "\n".join([*lines, ", ".join(f"{counts[outcome]} {outcome.value.lower()}" for outcome in Outcome)])


def _line(finding: Finding, width: int) -> str:
    first, *others = finding.detail.splitlines() or [""]
    head = f"{finding.outcome.value:<7}  {finding.title:<{width}}  {first}"
    return "\n".join([head, *(f"{'':9}{line}" for line in others)])


def run_check(check: Check) -> Finding:
    """Run a check, whatever a plugin's code raises.

    Args:
        check: what to check.

    Returns:
        How it ended.
    """
    try:
        return Finding(check.title, Outcome.PASSED, check.run())
    except KeyboardInterrupt:
        raise
    except (NotApplicableError, DependencyError) as reason:
        return Finding(check.title, Outcome.SKIPPED, str(reason))
    except NinokitError as error:
        return Finding(check.title, Outcome.FAILED, str(error))
    except BaseException as error:
        fault = "".join(traceback.format_exception_only(type(error), error)).strip()
        return Finding(check.title, Outcome.FAILED, fault)
