"""An example of every operation, and of every error, as the OpenAPI document shows them."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct


class Example(Struct, frozen=True, kw_only=True):
    """What one operation gets and gives."""

    body: Any = None
    answer: Any = None
    stream: str | None = None  # What it gives as server-sent events; without `answer`, only these.
    schema: Mapping[str, Any] | None = None  # Of the answer, where it is not ours.
    headers: Mapping[str, Any] = {}  # Of the answer, besides those that every answer has.


def _error(message: str, code: str, kind: str = "invalid_request_error", **more: str) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code} | more}


_JOB_ID: Final = "01kax3n8y2c0007qk5v2"
_AT: Final = "2026-11-25T14:03:00.120Z"
_POSITION: Final = "1764079380120-0"

ERRORS: Final[Mapping[int, Any]] = {
    400: _error("the body is empty; it takes JSON", "invalid_json"),
    401: _error("an API key is needed", "missing_api_key", "authentication_error"),
    403: _error("this key lacks the scope", "insufficient_scope", "permission_error"),
    404: _error(f"there is no job {_JOB_ID}", "job_not_found", job_id=_JOB_ID),
    408: _error("the body did not come in time", "body_too_slow"),
    409: _error("the job is completed", "job_state", job_id=_JOB_ID),
    410: _error(
        "the job's request and result were forgotten, as somebody asked for that",
        "job_forgotten",
        job_id=_JOB_ID,
    ),
    413: _error("the body is larger than MAX_BODY_BYTES allows", "body_too_large"),
    422: _error("queue: takes 1 to 64 letters, digits, …", "invalid_value", param="queue"),
    429: _error("1000 jobs wait in the queue already", "queue_full", "rate_limit_error"),
    502: _error("the inference server failed", "upstream_error", "server_error", job_id=_JOB_ID),
    503: _error("Redis does not answer", "store_unavailable", "server_error"),
    504: _error("not finished in time", "not_finished_in_time", "server_error", job_id=_JOB_ID),
}

_MESSAGES: Final = [{"role": "user", "content": "What is the capital of France?"}]
_USAGE: Final = {"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17}
_CHAT: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_764_079_380,
    "model": "gemma3-270m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris."},
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}
_TEXT: Final = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1_764_079_380,
    "model": "gemma3-270m",
    "choices": [{"index": 0, "text": "Paris.", "finish_reason": "stop", "logprobs": None}],
    "usage": _USAGE,
}
_VECTORS: Final = {
    "object": "list",
    "model": "embedder",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.12, -0.07, 0.31]}],
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
_MODEL: Final = {
    "id": "gemma3-270m",
    "object": "model",
    "created": 1_764_079_380,
    "owned_by": "respool",
}
_QUEUED: Final = {
    "id": _JOB_ID,
    "status": "queued",
    "version": 1,
    "model": "gemma3-270m",
    "queue": "default",
    "kind": "chat",
    "priority": "normal",
    "tenant": "default",
    "attempt": 0,
    "max_attempts": 3,
    "position": 1,
    "eta_seconds": 2.5,
    "created_at": _AT,
    "started_at": None,
    "finished_at": None,
    "due_at": None,
    "error": None,
    "usage": None,
    "metadata": {"user": "7"},
    "worker": None,
    "position_in_log": _POSITION,
}
_COMPLETED: Final = _QUEUED | {
    "status": "completed",
    "version": 3,
    "attempt": 1,
    "position": None,
    "eta_seconds": None,
    "started_at": _AT,
    "finished_at": "2026-11-25T14:03:02.480Z",
    "usage": _USAGE,
}
_CANCELLED: Final = _COMPLETED | {"status": "cancelled", "usage": None}
_QUEUE: Final = {
    "name": "default",
    "paused": False,
    "waiting": 3,
    "waiting_by_priority": {"normal": 3},
    "scheduled": 0,
    "running": 1,
    "oldest_waiting_seconds": 4.2,
    "arrived_per_minute": 12.0,
    "finished_per_minute": 11.6,
    "wait_seconds": {"p50": 0.4, "p90": 3.1, "p99": 4.2},
    "run_seconds": {"p50": 2.2, "p90": 3.8, "p99": 6.0},
}
_QUEUE_NOW: Final = {
    "name": "default",
    "paused": True,
    "waiting": 3,
    "scheduled": 0,
    "running": 1,
}
_BULK: Final = {"status": "failed", "queue": "default", "dry_run": True}
_BULK_DONE: Final = {
    "dry_run": True,
    "matched": 1,
    "done": 0,
    "refused": [],
    "job_ids": [_JOB_ID],
    "cursor": None,
}
_WORKER: Final = {
    "name": "gpu1-4711-a1b2c3",
    "status": "working",
    "alive": True,
    "capacity": 4,
    "running": [],
    "queues": [],
    "models": ["gemma3-270m"],
    "upstream": "openai",
    "host": "gpu1",
    "gpus": [
        {
            "index": 0,
            "name": "NVIDIA A100 80GB PCIe",
            "memory_bytes": 85_899_345_920,
            "used_bytes": 41_875_931_136,
        }
    ],
    "started_at": _AT,
    "last_seen_at": _AT,
    "done": {"completed": 12},
    "history": [{"at": _AT, "status": "started"}],
}
_USED: Final = {
    "day": "2026-11-25",
    "tenant": "default",
    "model": "gemma3-270m",
    "requests": 12,
    "completed": 12,
    "failed": 0,
    "prompt_tokens": 168,
    "completion_tokens": 36,
    "total_tokens": 204,
}
_OUTCOME: Final = {
    "queue": "default",
    "model": "gemma3-270m",
    "outcome": "attempt_failed",
    "error": "timeout",
    "count": 2,
}
_SUBMITTED: Final = {
    "version": 1,
    "type": "submitted",
    "at": _AT,
    "position": _POSITION,
    "queue": "default",
    "model": "gemma3-270m",
    "request": {"messages": _MESSAGES},
}

_AT_MS: Final = 1_764_079_380_120
_THEN: Final = {
    "at_ms": _AT_MS,
    "entries": 12,
    "waiting": 3,
    "running": 1,
    "scheduled": 0,
    "capacity": 4,
    "queues": [
        {
            "name": "default",
            "paused": False,
            "waiting": 3,
            "waiting_by_priority": {"normal": 3},
            "waiting_by_model": {"gemma3-270m": 3},
            "running": 1,
            "scheduled": 0,
            "oldest_waiting_ms": 4_200,
        }
    ],
    "workers": [
        {
            "name": "gpu1-4711-a1b2c3",
            "status": "started",
            "capacity": 4,
            "models": ["gemma3-270m"],
            "queues": [],
            "since_ms": _AT_MS - 60_000,
            "running": [
                {
                    "job_id": _JOB_ID,
                    "queue": "default",
                    "model": "gemma3-270m",
                    "since_ms": _AT_MS - 900,
                }
            ],
        }
    ],
}
_TOLD: Final = {
    "job_id": _JOB_ID,
    "queue": "default",
    "model": "gemma3-270m",
    "tenant": "default",
    "status": "queued",
    "moments": [
        {
            "at_ms": _AT_MS,
            "version": 1,
            "type": "submitted",
            "position": _POSITION,
            "says": "submitted to queue default for gemma3-270m, priority normal",
            "before": None,
        }
    ],
    "until_ms": _AT_MS + 2_000,
    "now": {
        "status": "queued",
        "ms": 2_000,
        "says": "waited 2.0 s: 1 job ahead, 1 worker with 4 slots, all busy",
        "wait": {
            "ahead": 1,
            "elsewhere": 0,
            "workers": 1,
            "slots": 4,
            "busy": 4,
            "paused": False,
            "claimed_ahead": 0,
            "overtaken_by": 0,
            "happenings": [],
        },
    },
    "spent_ms": {},
}

_EVENT: Final = 'id: 1\r\nevent: submitted\r\ndata: {"version":1,"type":"submitted"}\r\n\r\n'
_HAPPENING: Final = (
    f"id: {_POSITION}\r\nevent: submitted\r\n"
    f'data: {{"version":1,"type":"submitted","job_id":"{_JOB_ID}"}}\r\n\r\n'
)
_CHUNK: Final = (
    'id: 1-1\r\nevent: chunk\r\ndata: {"choices":[{"delta":{"content":"Paris."}}]}\r\n\r\n'
)
_ANSWER_STREAM: Final = (
    'data: {"choices":[{"delta":{"content":"Paris."}}]}\r\n\r\ndata: [DONE]\r\n\r\n'
)
_TEXT_STREAM: Final = 'data: {"choices":[{"text":"Paris."}]}\r\n\r\ndata: [DONE]\r\n\r\n'

_ANY_OBJECT: Final = {
    "type": "object",
    "description": "The inference server's answer, byte for byte.",
}
_ANYTHING: Final = {"description": "The inference server's answer, byte for byte: any JSON."}
_NAMES_JOB: Final = {
    "x-job-id": {"description": "The job's id.", "schema": {"type": "string"}},
}
_LOCATION: Final = {
    "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
}


def _asked(body: Any, answer: Any, stream: str | None = None) -> Example:
    """A request to an endpoint of OpenAI's."""
    return Example(body=body, answer=answer, stream=stream, schema=_ANY_OBJECT, headers=_NAMES_JOB)


EXAMPLES: Final[Mapping[str, Example]] = {
    "POST /v1/chat/completions": _asked(
        {"model": "gemma3-270m", "messages": _MESSAGES, "stream": False}, _CHAT, _ANSWER_STREAM
    ),
    "POST /v1/completions": _asked(
        {"model": "gemma3-270m", "prompt": "The capital of France is"}, _TEXT, _TEXT_STREAM
    ),
    "POST /v1/embeddings": _asked({"model": "embedder", "input": ["a text"]}, _VECTORS),
    "GET /v1/models": Example(answer={"object": "list", "data": [_MODEL]}),
    "GET /v1/models/{model}": Example(answer=_MODEL),
    "GET /v1/events": Example(stream=_HAPPENING),
    "POST /v1/jobs": Example(
        body={
            "model": "gemma3-270m",
            "request": {"messages": _MESSAGES},
            "metadata": {"user": "7"},
        },
        answer=_QUEUED,
        headers=_LOCATION,
    ),
    "GET /v1/jobs": Example(answer={"jobs": [_COMPLETED], "cursor": None, "position": _POSITION}),
    "GET /v1/jobs/{job_id}": Example(answer=_COMPLETED),
    "GET /v1/jobs/{job_id}/result": Example(answer=_CHAT, schema=_ANYTHING),
    "GET /v1/jobs/{job_id}/events": Example(answer={"events": [_SUBMITTED]}, stream=_EVENT),
    "GET /v1/jobs/{job_id}/output": Example(stream=_CHUNK),
    "POST /v1/jobs/{job_id}/cancel": Example(answer=_CANCELLED),
    "POST /v1/jobs/{job_id}/requeue": Example(answer=_QUEUED),
    "POST /v1/jobs/cancel": Example(body=_BULK | {"status": "queued"}, answer=_BULK_DONE),
    "POST /v1/jobs/requeue": Example(body=_BULK, answer=_BULK_DONE),
    "GET /v1/queues": Example(answer={"queues": [_QUEUE], "position": _POSITION}),
    "GET /v1/queues/{name}": Example(answer=_QUEUE | {"position": _POSITION}),
    "POST /v1/queues/{name}/pause": Example(body={"reason": "new drivers"}, answer=_QUEUE_NOW),
    "POST /v1/queues/{name}/resume": Example(answer=_QUEUE_NOW | {"paused": False}),
    "GET /v1/workers": Example(answer={"workers": [_WORKER], "position": _POSITION}),
    "GET /v1/usage": Example(answer={"usage": [_USED], "position": _POSITION}),
    "GET /v1/outcomes": Example(answer={"outcomes": [_OUTCOME], "position": _POSITION}),
    "GET /v1/replay/state": Example(answer={"state": _THEN, "notes": []}),
    "GET /v1/replay/timeline/{job_id}": Example(answer={"timeline": _TOLD, "notes": []}),
    "GET /healthz": Example(answer={"status": "ok"}),
    "GET /readyz": Example(answer={"status": "ready"}),
    "GET /metrics": Example(answer='proxy_queued_jobs{queue="default"} 3.0\n'),
}
