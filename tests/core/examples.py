"""One job in each state, and one of each command, by name."""

from typing import Any

from msgspec import Raw, structs

from core.commands import (
    Cancel,
    Claim,
    Command,
    Complete,
    ConfirmCancel,
    Enqueue,
    Expire,
    Fail,
    Forget,
    Lose,
    Requeue,
    Submit,
)
from core.events import ErrorKind, JobError, LostBecause, Timings
from core.states import (
    Cancelled,
    Completed,
    Expired,
    Failed,
    Job,
    Lane,
    Queued,
    Running,
    Scheduled,
)
from tests.given import submitted

CLAIM, STALE = 4, 3

KNOWN: dict[str, Any] = {
    "version": 9,
    "queue": "default",
    "model": "echo",
    "tenant": "default",
    "timeout_ms": 60_000,
    "attempts_max": 3,
    "claims": CLAIM,
    "claimed": 8,
}
OVERLOAD = JobError(ErrorKind.OVERLOAD, "busy")

RUNNING = Running(**KNOWN, lane=Lane.NORMAL, worker="w1")

JOBS: dict[str, Job | None] = {
    "nothing": None,
    "scheduled": Scheduled(**KNOWN),
    "scheduled, with a deadline": Scheduled(**KNOWN, deadline_ms=5_000),
    "queued": Queued(**KNOWN, lane=Lane.NORMAL),
    "queued, with a deadline": Queued(**KNOWN, lane=Lane.NORMAL, deadline_ms=5_000),
    "running": RUNNING,
    "running, to be cancelled": structs.replace(RUNNING, cancel_by="me"),
    "completed": Completed(**KNOWN),
    "failed": Failed(**KNOWN),
    "cancelled": Cancelled(**KNOWN),
    "expired": Expired(**KNOWN),
    "failed, forgotten": Failed(**KNOWN, forgotten=True),
}


def complete(claim: int) -> Complete:
    return Complete(claim, Raw(b"{}"), Timings(ran_ms=1))


def fail(claim: int, error: JobError = OVERLOAD, jitter: float = 0.5) -> Fail:
    return Fail(claim, error, jitter)


def lose(claim: int, why: LostBecause = LostBecause.LEASE_RAN_OUT, deliveries_max: int = 5) -> Lose:
    return Lose(claim, why, deliveries_max)


COMMANDS: dict[str, Command] = {
    "submit": Submit(submitted()),
    "enqueue": Enqueue(),
    "claim": Claim("w2"),
    "complete": complete(CLAIM),
    "complete, stale": complete(STALE),
    "fail": fail(CLAIM),
    "fail, stale": fail(STALE),
    "lose": lose(CLAIM),
    "lose, stale": lose(STALE),
    "cancel": Cancel("me"),
    "confirm cancel": ConfirmCancel(CLAIM),
    "confirm cancel, stale": ConfirmCancel(STALE),
    "expire": Expire(),
    "requeue": Requeue("me"),
    "forget": Forget("me", "ticket 7"),
}
