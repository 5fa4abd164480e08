"""The facts: every event that the log can hold.

Each event is a frozen Struct of one tagged union. A tag is the event's name on the wire and in the
log: it never changes, and a field, once released, is only ever added to (`core.upcast` reads what
older releases wrote). No event carries a time of day: an event's time is that of its log entry, by
Redis's clock. What lies ahead is carried as a delay, which the append turns into a due time.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Raw, Struct

Count = Annotated[int, Meta(ge=0)]
Ordinal = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0)]


class Kind(StrEnum):
    """What a job asks of the inference server, one per OpenAI endpoint."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class Priority(StrEnum):
    """How soon a waiting job is claimed, most urgent first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class ErrorKind(StrEnum):
    """What went wrong with an attempt; `core.retry` says which kinds are worth another one."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    OVERLOAD = "overload"
    SERVER_ERROR = "server_error"
    OUT_OF_MEMORY = "out_of_memory"
    LOST_STREAM = "lost_stream"
    BAD_REQUEST = "bad_request"
    UNKNOWN_MODEL = "unknown_model"
    REJECTED = "rejected"
    POISONED = "poisoned"
    WORKER_LOST = "worker_lost"


class LostBecause(StrEnum):
    """Why a worker's claim ended without an outcome. None of it costs the job an attempt."""

    LEASE_RAN_OUT = "lease ran out"  # Costs a delivery: the worker may have died of this job.
    DRAINED = "worker drained"  # Costs nothing: the worker was asked to stop.
    NEVER_STARTED = (
        "never started"  # Costs nothing: a worker took it, and was gone before it began.
    )


class JobError(Struct, frozen=True):
    """Why an attempt or a job failed, for a person (`message`) and for a program (`kind`)."""

    kind: ErrorKind
    message: str
    retry_after_ms: Milliseconds | None = None  # What the inference server asked for, if it did.


class Usage(Struct, frozen=True):
    """Tokens, as the inference server counted them."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    total_tokens: Count = 0


class Timings(Struct, frozen=True):
    """Durations of the attempt that completed, by the worker's monotonic clock."""

    ran_ms: Milliseconds
    first_token_ms: Milliseconds | None = None


class Gpu(Struct, frozen=True):
    """One device of a worker, as NVML names it."""

    index: Count
    name: str
    memory_bytes: Count


class Event(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """A fact about one subject: a job, a worker or a queue."""


class Submitted(Event, tag="submitted", frozen=True, kw_only=True):
    queue: str
    model: str
    kind: Kind = Kind.CHAT
    priority: Priority = Priority.NORMAL
    tenant: str
    request: Raw  # The body for the inference server, byte for byte.
    delay_ms: Milliseconds = 0
    deadline_ms: Ordinal | None = None  # To start within, from here or from a requeue.
    timeout_ms: Ordinal
    attempts_max: Ordinal
    metadata: dict[str, str] = {}
    traceparent: str | None = None
    key: str | None = None  # The id of the API key that it came with.


class Enqueued(Event, tag="queued", frozen=True, kw_only=True):
    why: str = "due"


class Claimed(Event, tag="claimed", frozen=True, kw_only=True):
    claim: Ordinal  # The fence: grows with every claim of this job, never reset.
    attempt: Ordinal
    worker: str


class AttemptFailed(Event, tag="attempt_failed", frozen=True, kw_only=True):
    claim: Ordinal
    attempt: Ordinal
    error: JobError
    delay_ms: Milliseconds  # Until the next attempt.


class AttemptLost(Event, tag="attempt_lost", frozen=True, kw_only=True):
    claim: Ordinal
    worker: str
    why: LostBecause


class Completed(Event, tag="completed", frozen=True, kw_only=True):
    claim: Ordinal
    attempt: Ordinal
    result: Raw  # The inference server's body, byte for byte.
    usage: Usage | None = None
    timings: Timings
    chunks: Count = 0  # Of output, whether or not all of them could be written.


class Failed(Event, tag="failed", frozen=True, kw_only=True):
    error: JobError
    attempts: Count
    deliveries: Count
    lost_workers: tuple[str, ...] = ()  # Of this life; named when the job was poisoned.


class CancelRequested(Event, tag="cancel_requested", frozen=True, kw_only=True):
    by: str
    reason: str | None = None


class Cancelled(Event, tag="cancelled", frozen=True, kw_only=True):
    by: str
    reason: str | None = None


class Expired(Event, tag="expired", frozen=True, kw_only=True):
    deadline_ms: Ordinal


class Requeued(Event, tag="requeued", frozen=True, kw_only=True):
    by: str


class Redacted(Event, tag="redacted", frozen=True, kw_only=True):
    """What a person wrote is taken out of the job's events (`core.redaction`); the transitions stay."""

    by: str
    reason: str | None = None


class WorkerStarted(Event, tag="worker_started", frozen=True, kw_only=True):
    capacity: Ordinal  # Jobs at once.
    queues: tuple[str, ...]  # Empty: every queue.
    models: tuple[str, ...]
    upstream: str
    host: str
    gpus: tuple[Gpu, ...] = ()


class WorkerDraining(Event, tag="worker_draining", frozen=True, kw_only=True):
    running: Count


class WorkerStopped(Event, tag="worker_stopped", frozen=True, kw_only=True):
    pass


class WorkerLost(Event, tag="worker_lost", frozen=True, kw_only=True):
    by: str  # The worker that noticed.


class QueuePaused(Event, tag="queue_paused", frozen=True, kw_only=True):
    by: str
    reason: str | None = None


class QueueResumed(Event, tag="queue_resumed", frozen=True, kw_only=True):
    by: str


JobEvent = (
    Submitted
    | Enqueued
    | Claimed
    | AttemptFailed
    | AttemptLost
    | Completed
    | Failed
    | CancelRequested
    | Cancelled
    | Expired
    | Requeued
    | Redacted
)
WorkerEvent = WorkerStarted | WorkerDraining | WorkerStopped | WorkerLost
QueueEvent = QueuePaused | QueueResumed
AnyEvent = JobEvent | WorkerEvent | QueueEvent
