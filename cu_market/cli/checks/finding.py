"""What a check has found, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a finding means for runs: nothing, some, or none of them will do."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried.

    Attributes:
        subject: ``deployment`` or a provider's name.
        check: what was tried.
        verdict: what came of it.
        found: in words.
        remedy: what to do about it; empty where it is well.
    """

    subject: str
    check: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def to_record(self) -> dict[str, str]:
        """Returns the finding ready for JSON."""
        return {
            "subject": self.subject,
            "check": self.check,
            "verdict": self.verdict.value,
            "found": self.found,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """Writes findings about one thing."""

    name: str

    def ok(self, check: str, found: str) -> Finding:
        """Returns that it is well."""
        return Finding(subject=self.name, check=check, verdict=Verdict.OK, found=found)

    def warning(self, check: str, found: str, remedy: str) -> Finding:
        """Returns that some runs will meet trouble."""
        return Finding(
            subject=self.name, check=check, verdict=Verdict.WARNING, found=found, remedy=remedy
        )

    def failed(self, check: str, found: str, remedy: str) -> Finding:
        """Returns that runs cannot do."""
        return Finding(
            subject=self.name, check=check, verdict=Verdict.FAILED, found=found, remedy=remedy
        )

    def tried(
        self, check: str, work: Callable[[], Iterator[Finding]], remedy: str
    ) -> Iterator[Finding]:
        """Yields what work yields; whatever it raises is a finding too, so the next is tried."""
        try:
            yield from work()
        except Exception as error:  # noqa: BLE001 - what is broken is what is looked for
            said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            yield self.failed(check, said, remedy)
