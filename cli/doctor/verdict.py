"""What a judge says. Nothing passes without evidence: what is not known is a warning at best."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from msgspec import Struct

from cli.doctor.facts import Facts, Unknown


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a word.
    WARN = "warn"
    FAIL = "fail"


class Said(Struct, frozen=True):
    """A verdict, what it rests on, and what to do about it."""

    verdict: Verdict
    evidence: str
    remedy: str = ""


Judge = Callable[[Facts], Said]
Known = TypeVar("Known")


class Box(Struct, frozen=True):
    """A box of the checklist."""

    name: str
    title: str
    judge: Judge


def passed(evidence: str) -> Said:
    return Said(Verdict.PASS, evidence)


def warned(evidence: str, remedy: str) -> Said:
    return Said(Verdict.WARN, evidence, remedy)


def failed(evidence: str, remedy: str) -> Said:
    return Said(Verdict.FAIL, evidence, remedy)


def judged(fact: Known | Unknown, judge: Callable[[Known], Said], remedy: str) -> Said:
    """What a judge says of a fact; what would make it known, if it is not.

    What was not asked for is a warning. What was, and does not answer, is a failure.
    """
    if isinstance(fact, Unknown):
        return (
            failed(fact.why, "start it, or name another")
            if fact.is_down
            else warned(fact.why, remedy)
        )
    return judge(fact)
