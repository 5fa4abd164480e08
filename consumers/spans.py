"""The spans of a worker's attempts, in OpenTelemetry's conventions for messaging and for GenAI.

    whoever submitted the job
    ├── wait       from when it could be claimed to its claim
    └── process    the attempt, from its claim to its outcome in the log
        └── chat MODEL    the call to the inference server, which is told to go on from here

A wait is as long as Redis's clock says, by the log, and ends when its attempt begins by this host's
clock: so no skew between the two makes it longer, shorter, or later than the attempt. An attempt whose
worker died has the span of whoever recovered the job, by the same rule.

Nothing is recorded of a request or of an answer but the model, the tokens and why it ended.
"""

import time
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct
from opentelemetry.context import Context, attach
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import (
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_REQUEST_STREAM,
    GEN_AI_RESPONSE_FINISH_REASONS,
    GEN_AI_RESPONSE_ID,
    GEN_AI_RESPONSE_MODEL,
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
)
from opentelemetry.semconv._incubating.attributes.messaging_attributes import (
    MESSAGING_CLIENT_ID,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
)
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from consumers.upstream.base import Upstream
from consumers.upstream.connect import provider_of
from core.commands import Command, Complete, ConfirmCancel, Fail, Lose
from core.events import ErrorKind, Kind, Submitted
from core.states import Job, Running
from core.tracing import JOB_ID, OWN_TRACE_ID, context_of, trace_id_for, traceparent_of

Attributes = dict[str, AttributeValue]

_ATTEMPT: Final = "respool.attempt"  # Counted within the job's life, from 1.
_OUTCOME: Final = "respool.outcome"
_TENANT: Final = "respool.tenant"
_OPERATIONS: Final = {
    Kind.CHAT: "chat",
    Kind.COMPLETIONS: "text_completion",
    Kind.EMBEDDINGS: "embeddings",
}
_NANOSECONDS: Final = 1_000_000  # In a millisecond.


class WorkerSpans:
    """Records the attempts of one worker, and those of dead ones that it takes back."""

    def __init__(self, tracer: Tracer, worker: str, upstream: Upstream) -> None:
        self._tracer = tracer
        self._worker = worker
        self._server = _server(upstream)

    def begin(
        self, job_id: str, submitted: Submitted | None, job: Running, waited_ms: int
    ) -> "AttemptSpans":
        """The spans of an attempt that begins now. What this task logs is marked with them."""
        now = time.time_ns()
        parent = _parent(job_id, submitted)
        about = _about(job_id, job)
        process = self._process(parent, about, job, self._worker, now)
        if process.is_recording():
            about[MESSAGING_OPERATION_NAME] = "wait"
            began = now - waited_ms * _NANOSECONDS
            self._tracer.start_span("wait", parent, attributes=about, start_time=began).end(now)
        attach(set_span_in_context(process))
        return AttemptSpans(self._tracer, process, self._server, job_id, job)

    def lost(self, job_id: str, submitted: Submitted | None, job: Running, ran_ms: int) -> None:
        """Record an attempt that its worker cannot tell of any more; it is over now, after so long."""
        now = time.time_ns()
        began = now - ran_ms * _NANOSECONDS
        parent = _parent(job_id, submitted)
        process = self._process(parent, _about(job_id, job), job, job.worker, began)
        _note(process, {_OUTCOME: "lost", ERROR_TYPE: ErrorKind.WORKER_LOST})
        process.end(now)

    def _process(
        self, parent: Context, about: Attributes, job: Running, worker: str, began: int
    ) -> Span:
        attributes: Attributes = {
            **about,
            MESSAGING_OPERATION_NAME: "process",
            MESSAGING_OPERATION_TYPE: "process",
            MESSAGING_CLIENT_ID: worker,
            _ATTEMPT: job.attempts + 1,
            _TENANT: job.tenant,
        }
        kind = SpanKind.CONSUMER
        return self._tracer.start_span("process", parent, kind, attributes, start_time=began)


class AttemptSpans:
    """One attempt. `call`, `called`, `end`, in this order; `end` may come at any moment."""

    def __init__(
        self, tracer: Tracer, process: Span, server: Attributes, job_id: str, job: Running
    ) -> None:
        self._tracer = tracer
        self._process = process
        self._server = server
        self._job_id = job_id
        self._job = job
        self._call: Span | None = None

    def call(self) -> str:
        """Begin the call to the inference server; the `traceparent` to send along."""
        if not self._process.is_recording():
            return traceparent_of(self._process.get_span_context())
        operation = _OPERATIONS[self._job.kind]
        attributes: Attributes = {
            **self._server,
            GEN_AI_OPERATION_NAME: operation,
            GEN_AI_REQUEST_MODEL: self._job.model,
            GEN_AI_REQUEST_STREAM: self._job.kind is not Kind.EMBEDDINGS,
            JOB_ID: self._job_id,
        }
        self._call = self._tracer.start_span(
            f"{operation} {self._job.model}",
            set_span_in_context(self._process),
            SpanKind.CLIENT,
            attributes,
        )
        return traceparent_of(self._call.get_span_context())

    def called(self, command: Command | None) -> None:
        """The call is over: what is to be written of it, None if the job is another worker's by now."""
        if not self._process.is_recording():
            return
        outcome = _outcome(command)
        _note(self._process, outcome)
        if (call := self._call) is not None:
            self._call = None
            if isinstance(command, Complete):
                outcome |= _about_answer(command)
            _note(call, outcome)
            call.end()

    def end(self, error: BaseException | None) -> None:
        """The attempt is over, with its outcome in the log or with an error."""
        for span in (self._call, self._process):
            if span is not None:
                if error is not None:
                    _note(span, {_OUTCOME: "failed", ERROR_TYPE: type(error).__name__})
                span.end()


class _Choice(Struct):
    finish_reason: str | None = None


class _Answer(Struct):
    """What is told of an answer."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = []


_decoder: Final = msgspec.json.Decoder(_Answer)


def _parent(job_id: str, submitted: Submitted | None) -> Context:
    """What the job's spans are children of. A job that came without has a trace of its own."""
    if submitted is None or submitted.traceparent is None:
        OWN_TRACE_ID.set(trace_id_for(job_id))
        return Context()
    return context_of(submitted.traceparent)


def _about(job_id: str, job: Job) -> Attributes:
    return {
        MESSAGING_SYSTEM: "respool",
        MESSAGING_DESTINATION_NAME: job.queue,
        MESSAGING_MESSAGE_ID: job_id,
        JOB_ID: job_id,
    }


def _server(upstream: Upstream) -> Attributes:
    known: Attributes = {GEN_AI_PROVIDER_NAME: provider_of(upstream)}
    address = urlsplit(upstream.address)
    if address.hostname:
        known[SERVER_ADDRESS] = address.hostname
        known[SERVER_PORT] = address.port or (443 if address.scheme == "https" else 80)
    return known


def _outcome(command: Command | None) -> Attributes:
    match command:
        case Complete():
            return {_OUTCOME: "completed"}
        case Fail(error=error):
            return {_OUTCOME: "failed", ERROR_TYPE: error.kind}
        case ConfirmCancel():
            return {_OUTCOME: "cancelled"}
        case Lose():
            return {_OUTCOME: "given_back"}
        case _:
            return {_OUTCOME: "lost", ERROR_TYPE: "taken_over"}


def _about_answer(command: Complete) -> Attributes:
    about: Attributes = {}
    if (usage := command.usage) is not None:
        about[GEN_AI_USAGE_INPUT_TOKENS] = usage.prompt_tokens
        about[GEN_AI_USAGE_OUTPUT_TOKENS] = usage.completion_tokens
    if (first_token_ms := command.timings.first_token_ms) is not None:
        about[GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = first_token_ms / 1_000
    answer = _read(command.result)
    if answer.model is not None:
        about[GEN_AI_RESPONSE_MODEL] = answer.model
    if answer.id is not None:
        about[GEN_AI_RESPONSE_ID] = answer.id
    if reasons := [one.finish_reason for one in answer.choices if one.finish_reason is not None]:
        about[GEN_AI_RESPONSE_FINISH_REASONS] = reasons
    return about


def _read(body: Raw) -> _Answer:
    """What there is of it: an inference server may answer anything."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Answer()


def _note(span: Span, about: Attributes) -> None:
    """All at once, as each call takes its time; what has an error's type has failed."""
    span.set_attributes(about)
    if ERROR_TYPE in about:
        span.set_status(Status(StatusCode.ERROR))
