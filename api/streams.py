"""Server-sent events: a job's transitions, and its output as it comes.

The order is always hear, read, send, wait: the bell is heard before the first read, so nothing falls
between what was caught up on and what is live. Every stream ends with the job's ending; one that is cut
short, as the process stops, is resumed by its client. While the store is away a stream stays open and says
nothing new. What only a newer release can read ends it with an `error`; an API of that release resumes it.
"""

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final

import msgspec
from litestar.response.sse import ServerSentEventMessage

from api.errors import STORE_AWAY, STORE_AWAY_SECONDS, error_view, store_failure
from api.schemas import event_view
from core.bells import Bell
from core.errors import FromTheFuture
from core.events import AttemptFailed, AttemptLost, Completed
from core.head import Head
from core.log import tag_of
from core.output import CHUNKS_PER_LOOK, Chunk
from core.states import Completed as CompletedState
from core.states import Job, Running, has_ended, status_of
from core.store import EventStore
from core.watcher import Story, Watcher

COMMENT_EVERY_SECONDS: Final = 15.0
COMMENT: Final = (
    b": still here\r\n"  # No empty line after it, which some clients take for an event.
)
_PIECE_BYTES: Final = 64 * 1024
_VOID: Final = 2**63  # A sequence beyond any: the claim was lost, and its reader told so.
_TRIMMED: Final = ("attempt_lost", "the log no longer says why")


def message(data: Any, event: str, event_id: str | int | None = None) -> bytes:
    """One event of a stream, its data as JSON."""
    text = data if isinstance(data, bytes) else msgspec.json.encode(data)
    return ServerSentEventMessage(data=text, event=event, id=event_id).encode()


def pieces(messages: Iterable[bytes]) -> Iterator[bytes]:
    """What has come together is sent together, in pieces that no buffer chokes on."""
    piece: list[bytes] = []
    size = 0
    for one in messages:
        if piece and size + len(one) > _PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(one)
        size += len(one)
    if piece:
        yield b"".join(piece)


async def job_events(
    story: Callable[[str], Awaitable[Story]], bell: Bell, job_id: str, after_version: int
) -> AsyncGenerator[bytes, None]:
    """A job's events from version `after_version` + 1 on; the id of each is its version."""
    sent = after_version
    while True:
        try:
            head, entries = await story(job_id)
        except STORE_AWAY:
            await bell.wait(STORE_AWAY_SECONDS)
            if bell.is_closing:
                return
            yield COMMENT
            continue
        except FromTheFuture as error:
            yield _newer(job_id, error)
            return
        for entry in entries:
            if entry.version > sent:
                sent = entry.version
                fields = event_view(entry)
                yield message(fields, fields["type"], sent)
        if head is None or (has_ended(head.job) and head.job.version <= sent):
            return
        if not await bell.wait(COMMENT_EVERY_SECONDS):
            yield COMMENT
        if bell.is_closing:
            return


async def job_output(
    store: EventStore, watcher: Watcher, bell: Bell, job_id: str, after: str
) -> AsyncGenerator[bytes, None]:
    """A job's output after the chunk with id `after`; each chunk's id is its claim and sequence.

    `attempt_lost` says that what came so far is void, since that attempt is over, and why; `resync`
    that some chunks were dropped, or have expired, so that only the result has all of them.
    """
    cursor, head = after, None
    while True:
        try:
            head, chunks = await watcher.look(job_id, cursor, head)
            completed = await _completed(store, job_id, head.job) if head else None
            losses = await _losses(store, job_id) if _is_any_void(cursor, chunks, head) else {}
        except STORE_AWAY:
            await bell.wait(STORE_AWAY_SECONDS)
            if bell.is_closing:
                return
            yield COMMENT
            continue
        except FromTheFuture as error:
            yield _newer(job_id, error)
            return
        messages: list[bytes] = []
        for chunk in chunks:
            messages += _notices(cursor, chunk, losses)
            cursor = chunk.id
            messages.append(message(chunk.data, "chunk", chunk.id))
        for piece in pieces(messages):
            yield piece
        if len(chunks) == CHUNKS_PER_LOOK:
            continue
        if head is None:
            return
        if is_void(cursor, head.job):
            yield _lost(cursor, losses)
            # What the next claim writes comes after it.
            cursor = f"{cursor.partition('-')[0]}-{_VOID}"
        if has_ended(head.job):
            if completed is not None and is_missing_after(cursor, completed):
                next_one = {"claim": completed.claim, "next": completed.chunks + 1}
                yield message(next_one, "resync")
            ending = {"job_id": job_id, "status": status_of(head.job)}
            yield message(ending, status_of(head.job))
            return
        if not await bell.wait(COMMENT_EVERY_SECONDS):
            yield COMMENT
        if bell.is_closing:
            return


def _newer(job_id: str, error: FromTheFuture) -> bytes:
    return message(error_view(store_failure(error, job_id)), "error")


async def _completed(store: EventStore, job_id: str, job: Job) -> Completed | None:
    """The event that says how an attempt ended well; None if none has, or it was trimmed."""
    if not isinstance(job, CompletedState):
        return None
    view = await store.view(job_id)
    return view.last if view is not None and isinstance(view.last, Completed) else None


def is_missing_after(cursor: str, completed: Completed) -> bool:
    """Say whether the output of the attempt that ended well goes on after the chunk at `cursor`."""
    claim, sequence = map(int, cursor.split("-"))
    return completed.chunks > (sequence if claim == completed.claim else 0)


async def _losses(store: EventStore, job_id: str) -> dict[int, tuple[str, str]]:
    """How each claim that came to nothing ended: the event, and why in plain words."""
    losses: dict[int, tuple[str, str]] = {}
    for entry in await store.history(job_id):
        match entry.event:
            case AttemptFailed(claim=claim, error=error):
                losses[claim] = (tag_of(entry.event), error.message)
            case AttemptLost(claim=claim, why=why):
                losses[claim] = (tag_of(entry.event), why)
    return losses


def _is_any_void(cursor: str, chunks: Sequence[Chunk], head: Head | None) -> bool:
    """Say whether an attempt ends among `chunks`, which follow `cursor`, or right after them."""
    ids = [cursor, *(chunk.id for chunk in chunks)]
    claims = {claim_id.partition("-")[0] for claim_id in ids} - {"0"}
    return len(claims) > 1 or (head is not None and is_void(ids[-1], head.job))


def is_void(cursor: str, job: Job) -> bool:
    """Say whether the chunks up to `cursor` are of an attempt that was lost, which is yet to be told.

    The job may be older than the chunks; then the next look at it says more.
    """
    claim, sequence = map(int, cursor.split("-"))
    if not claim or sequence >= _VOID:
        return False
    is_over = not isinstance(job, Running) and not has_ended(job)
    return claim < job.claims or (claim == job.claims and is_over)


def _notices(cursor: str, chunk: Chunk, losses: Mapping[int, tuple[str, str]]) -> list[bytes]:
    """What to say before a chunk that does not simply follow the one at `cursor`."""
    claim, sequence = map(int, cursor.split("-"))
    if claim == chunk.claim:
        return [] if chunk.sequence == sequence + 1 else [_resync(chunk)]
    notices = [_lost(cursor, losses)] if claim and sequence < _VOID else []
    return notices if chunk.sequence == 1 else [*notices, _resync(chunk)]


def _lost(cursor: str, losses: Mapping[int, tuple[str, str]]) -> bytes:
    claim = int(cursor.partition("-")[0])
    outcome, why = losses.get(claim, _TRIMMED)
    return message({"claim": claim, "outcome": outcome, "why": why}, "attempt_lost")


def _resync(chunk: Chunk) -> bytes:
    return message({"claim": chunk.claim, "next": chunk.sequence}, "resync")
