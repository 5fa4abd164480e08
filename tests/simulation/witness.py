"""Sees every append as it happens, and holds each against what the store promises.

The audit looks at a store at rest; the witness also knows who sent what, who was the holder of a claim
when a chunk was written, and what each caller was told.
"""

from asyncio import Future
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from core import events, states
from core.commands import Command, Complete, ConfirmCancel, Fail, Lose
from core.events import JobEvent, LostBecause
from core.job import evolve
from core.keys import LaneName, ShardKeys
from core.log import LogEntry, entry_of, tag_of
from core.states import Job, Queued, Running, Scheduled, has_ended, status_of
from tests.simulation.server import Answer, Server

_WRITERS: Final = ("append", "submit")
_FROM: Final[dict[type, tuple[type, ...]]] = {
    events.Submitted: (type(None),),
    events.Enqueued: (Scheduled,),
    events.Claimed: (Queued,),
    events.AttemptFailed: (Running,),
    events.AttemptLost: (Running,),
    events.Completed: (Running,),
    events.Failed: (Running, Queued),
    events.CancelRequested: (Running,),
    events.Cancelled: (Running, Queued, Scheduled),
    events.Expired: (Queued, Scheduled),
    events.Requeued: (states.Failed, states.Cancelled, states.Expired),
    events.Redacted: (states.Ended,),
}


class Broken(Exception):
    """Something that the store promises is not so."""


class Sent(NamedTuple):
    """Who appended, and which command of a worker it came from."""

    process: str
    command: Command | None


class Witness:
    """What has been written, sent and answered in one run."""

    def __init__(self, server: Server, shards: Sequence[ShardKeys], waiting_max: int) -> None:
        self.log: dict[int, list[LogEntry]] = {keys.shard: [] for keys in shards}
        self.jobs: dict[str, Job] = {}
        self.endings: Counter[str] = Counter()
        self.chunks_written = 0
        self._server = server
        self._waiting_max = waiting_max
        self._shards = {keys.log: keys for keys in shards}
        self._sent: dict[str, Sent] = {}
        self._written: dict[str, list[str]] = defaultdict(list)  # Log ids, by operation.
        self._versions: Counter[str] = Counter()
        self._in_conflict: set[str] = (
            set()
        )  # Operations that were told that they are not in the log.
        self._submissions: dict[str, list[str]] = defaultdict(
            list
        )  # Jobs in the log, by submission.

    def saw(self, name: str, answer: Answer) -> str:
        """Check what a call has done; what it came to, in a word for the trace. Raises Broken."""
        if isinstance(answer.reply, ResponseError):
            raise Broken(f"Redis refused {name}: {answer.reply}")
        for lane, entry, owner, thief in answer.thefts:
            raise Broken(f"a renewal of {thief!r} took {entry!r} in {lane!r} from {owner!r}")
        for key, entry_id, data in answer.chunks:
            self._check_chunk(key.decode(), entry_id.decode(), data)
        self._read(answer)
        if name not in _WRITERS:
            return "ok"
        for reply in answer.reply:
            if reply[:2] == [b"refused", b"error"]:
                raise Broken(f"an append failed half way: {reply}")
        return ", ".join(_said(reply) for reply in answer.reply)

    def _read(self, answer: Answer) -> None:
        """Follow the log by what the call has written to it."""
        new: list[tuple[ShardKeys, LogEntry]] = []
        for log, *raw in answer.written:
            keys = self._shards[log.decode()]
            entry, seen = entry_of(raw), self.log[keys.shard]
            _require(entry.sequence == len(seen) + 1, entry, "the sequence has a gap")
            seen.append(entry)
            self._check_entry(entry)
            new.append((keys, entry))
        for keys, entry in new:
            self._check_claim(keys, entry)

    def _check_entry(self, entry: LogEntry) -> None:
        self._versions[entry.subject] += 1
        _require(entry.version == self._versions[entry.subject], entry, "its version is taken")
        _require(
            entry.operation not in self._in_conflict, entry, "its caller was told of a conflict"
        )
        ids = self._written[entry.operation]
        _require(entry.operation in self._sent, entry, "nobody has sent it")
        ids.append(entry.id)
        if isinstance(entry.event, JobEvent):
            self._check_transition(entry, entry.event)

    def _check_transition(self, entry: LogEntry, event: JobEvent) -> None:
        before = self.jobs.get(entry.subject)
        _require(isinstance(before, _FROM[type(event)]), entry, f"the job is {before}")
        match before, event:
            case states.Ended(forgotten=True), _:
                raise Broken(f"{entry}: the job was forgotten")
            case None, events.Submitted():
                self._submissions[event.metadata["submission"]].append(entry.subject)
                self._check_limit(entry, event)
            case Queued(), events.Claimed(claim=claim):
                _require(claim == before.claims + 1, entry, "its claim number is not the next one")
            case Queued(), events.Failed():
                _require(
                    len(self._written[entry.operation]) > 1, entry, "it failed without an attempt"
                )
            case Running(), events.AttemptLost(worker=worker, claim=claim):
                is_current = (worker, claim) == (before.worker, before.claims)
                _require(is_current, entry, f"the claim is {before}")
                if event.why is LostBecause.DRAINED:
                    self._check_sender(entry, before)
            case Running(), events.Completed() | events.AttemptFailed():
                _require(event.claim == before.claims, entry, f"the claim is {before.claims}")
                self._check_sender(entry, before)
            case Running(), events.Failed() | events.Cancelled():
                self._check_sender(entry, before)
        if isinstance(event, events.Failed):
            lost = len(before.lost_workers) if before else 0
            _require(event.deliveries == lost, entry, f"{lost} workers were lost")
        after = self.jobs[entry.subject] = evolve(before, event)
        if has_ended(after) and not isinstance(event, events.Redacted):
            self.endings[status_of(after)] += 1

    def _check_limit(self, entry: LogEntry, event: events.Submitted) -> None:
        """A queue of a shard takes so many and no more; what comes back to it is not counted out."""
        shard = entry.subject[-2:]
        waiting = sum(
            isinstance(job, Queued) and job.queue == event.queue and job_id[-2:] == shard
            for job_id, job in self.jobs.items()
        )
        is_full = event.delay_ms == 0 and waiting >= self._waiting_max
        _require(not is_full, entry, f"{waiting} jobs wait already")

    def _check_sender(self, entry: LogEntry, before: Running) -> None:
        """Only the worker that holds the claim says how the attempt went."""
        sender = self._sent[entry.operation]
        match sender.command:
            case Complete(claim) | Fail(claim) | Lose(claim) | ConfirmCancel(claim):
                is_holder = (sender.process, claim) == (before.worker, before.claims)
                _require(is_holder, entry, f"{sender} does not hold claim {before.claims}")
            case _:
                raise Broken(f"{sender} ended the attempt of {before}: {entry}")

    def _check_claim(self, keys: ShardKeys, entry: LogEntry) -> None:
        """Whoever has just claimed a job holds its lane entry."""
        job = self.jobs.get(entry.subject)
        if not isinstance(job, Running) or not isinstance(entry.event, events.Claimed):
            return
        lane = keys.ready(LaneName(job.lane, job.queue, job.model))
        lane_entry = self._server.execute(0, ("HGET", keys.head(entry.subject), "entry")).reply
        ask = ("XPENDING", lane, "workers", lane_entry, lane_entry, 1)
        rows = self._server.execute(0, ask, parse_detail=True).reply
        owners = [row["consumer"].decode() for row in rows]
        _require(owners == [job.worker], entry, f"the lane entry is pending for {owners}")

    def _check_chunk(self, key: str, entry_id: str, data: bytes) -> None:
        job_id, claim = key.rpartition(":")[2], int(entry_id.partition("-")[0])
        job = self.jobs.get(job_id)
        writer = msgspec.json.decode(data)["by"]
        if not isinstance(job, Running) or (job.claims, job.worker) != (claim, writer):
            raise Broken(f"{writer} wrote chunk {entry_id} of job {job_id}, which is {job}")
        self.chunks_written += 1

    def sent(self, operation: str, sender: Sent) -> None:
        """An append is on its way."""
        self._sent[operation] = sender

    def answered(self, operation: str, reply: Future[Any]) -> None:
        """The sender of an append was told what it came to. Raises Broken if that is not so."""
        if reply.cancelled() or reply.exception() is not None:
            return
        written = self._written.get(operation, [])
        match reply.result():
            case [b"ok", _, *ids]:
                told = [log_id.decode() for log_id in ids]
                if told != written:
                    raise Broken(f"{operation} was told that it is at {told}; it is at {written}")
            case [b"conflict", *_]:
                self._in_conflict.add(operation)
                if written:
                    raise Broken(f"{operation} was told of a conflict; it is at {written}")

    def check_submissions(self, accepted: Sequence[tuple[str, str]]) -> None:
        """Every submission is one job at most, and what was accepted is one. Raises Broken."""
        for submission, jobs in self._submissions.items():
            if len(jobs) > 1:
                raise Broken(f"submission {submission} is {len(jobs)} jobs: {jobs}")
        for submission, job_id in accepted:
            jobs = self._submissions.get(submission, [])
            if jobs != [job_id]:
                raise Broken(f"{submission} was accepted as {job_id}; in the log: {jobs}")


def _require(is_so: bool, entry: LogEntry, otherwise: str) -> None:
    if not is_so:
        raise Broken(f"{tag_of(entry.event)}: {otherwise}: {entry}")


def _said(reply: Sequence[bytes]) -> str:
    """An answer without the ids in it."""
    return " ".join(part.decode() for part in reply[: 2 if reply[0] == b"refused" else 1])
