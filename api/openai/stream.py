"""A job's output as OpenAI streams it: chunks, the usage if it was asked for, and `[DONE]`.

Nothing of an attempt that was lost before its first chunk is seen; one that is lost later ends the
stream at once with an error that names the job, since what was sent cannot be taken back.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
from litestar.response.sse import ServerSentEventMessage

from api.desk import Desk
from api.errors import STORE_AWAY, STORE_AWAY_SECONDS, ApiError, error_view, forgotten
from api.openai.outcomes import failure, out_of_sight, stopping
from api.openai.schemas import usage_chunk, whole_chunk
from api.streams import COMMENT, COMMENT_EVERY_SECONDS, is_missing_after, is_void, pieces
from core.bells import Bell
from core.errors import FromTheFuture
from core.events import Completed, Kind
from core.head import Head
from core.output import CHUNKS_PER_LOOK, Chunk
from core.states import has_ended
from core.store import View

_DONE: Final = b"[DONE]"
_RESULT: Final = "GET /v1/jobs/{}/result"


def message(data: bytes) -> bytes:
    """One event, as OpenAI's clients expect it: data alone."""
    return ServerSentEventMessage(data=data).encode()


async def answer_stream(
    desk: Desk, job_id: str, kind: Kind, *, wants_usage: bool, on_left: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """The events of the stream; `on_left` is called if it is closed before its end.

    Raises ApiError if the job fails before the first event; later, that is the last event.
    """
    is_over = has_begun = False
    try:
        async with (
            desk.bells.hear(job_id) as bell,
            aclosing(_events(desk, bell, job_id, kind, wants_usage)) as events,
        ):
            async for event in events:
                yield event
                has_begun = True
        is_over = True
    except ApiError as error:
        is_over = True
        if not has_begun:
            raise
        yield message(msgspec.json.encode(error_view(error)))
    finally:
        if not is_over:
            on_left()


async def _events(
    desk: Desk, bell: Bell, job_id: str, kind: Kind, wants_usage: bool
) -> AsyncGenerator[bytes, None]:
    """What there is to send, with a comment whenever there was none for a while. Raises ApiError."""
    cursor, has_sent, head = "0-0", False, None
    while True:
        try:
            head, ended, chunks = await _look(desk, job_id, cursor, head)
            if not has_sent and cursor != _start(head, ended):
                cursor = _start(head, ended)
                continue
        except STORE_AWAY:
            await bell.wait(STORE_AWAY_SECONDS)
            if bell.is_closing:
                raise stopping(job_id) from None
            yield COMMENT
            continue
        except FromTheFuture as error:
            raise out_of_sight(job_id, error) from error
        is_page_full = len(chunks) == CHUNKS_PER_LOOK
        while chunks:  # All at once, unless something is missing among them.
            _check_follows(job_id, cursor, chunks[0], has_sent=has_sent)
            whole = _unbroken(chunks)
            cursor, has_sent = whole[-1].id, True
            for piece in pieces(message(chunk.data) for chunk in whole):
                yield piece
            chunks = chunks[len(whole) :]
        if is_page_full:
            continue
        if ended is not None:
            for last in _closing(job_id, ended, cursor, kind, wants_usage, has_sent=has_sent):
                yield last
            return
        if has_sent and is_void(cursor, head.job):
            raise _lost(job_id)
        if not await bell.wait(COMMENT_EVERY_SECONDS):
            yield await _comment(desk, job_id)
        if bell.is_closing:
            raise stopping(job_id)


async def _look(
    desk: Desk, job_id: str, after: str, known: Head | None
) -> tuple[Head, View | None, list[Chunk]]:
    """A job, how it ended if it has, and what comes after a chunk. Raises ApiError, StoreError."""
    head, chunks = await desk.watcher.look(job_id, after, known)
    if head is None:
        raise ApiError(404, "job_not_found", f"there is no job {job_id}", job_id=job_id)
    ended = await desk.store.view(job_id) if has_ended(head.job) else None
    return head, ended, chunks


def _start(head: Head, ended: View | None) -> str:
    """Where the output of the attempt that counts begins: what came before it is of lost ones."""
    completed = ended.last if ended and isinstance(ended.last, Completed) else None
    return f"{completed.claim if completed else head.job.claims}-0"


def _closing(
    job_id: str, ended: View, cursor: str, kind: Kind, wants_usage: bool, *, has_sent: bool
) -> Iterator[bytes]:
    """What comes after the last chunk. Raises ApiError if the job did not complete, or some is missing."""
    if ended.is_forgotten:
        raise forgotten(job_id)
    if not isinstance(ended.last, Completed):
        raise failure(job_id, ended)
    result = bytes(ended.last.result)
    if is_missing_after(cursor, ended.last):
        if has_sent:
            text = f"some of the stream is gone; {_RESULT.format(job_id)} has all of it"
            raise _broken(job_id, text)
        yield message(whole_chunk(result, kind))  # The chunks have expired, and the answer has not.
    if wants_usage and (usage := usage_chunk(result, kind)) is not None:
        yield message(usage)
    yield message(_DONE)


def _unbroken(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The first chunks, as far as each follows the one before it."""
    first = chunks[0]
    return [
        chunk
        for at, chunk in enumerate(chunks)
        if (chunk.claim, chunk.sequence) == (first.claim, first.sequence + at)
    ]


def _check_follows(job_id: str, cursor: str, chunk: Chunk, *, has_sent: bool) -> None:
    """Raises ApiError if a chunk cannot be sent after the one at `cursor`."""
    claim, sequence = map(int, cursor.split("-"))
    if claim != chunk.claim and has_sent:
        raise _lost(job_id)
    if chunk.sequence != (sequence + 1 if claim == chunk.claim else 1):
        text = f"some of the stream was dropped; {_RESULT.format(job_id)} will have all of it"
        raise _broken(job_id, text)


async def _comment(desk: Desk, job_id: str) -> bytes:
    """What to say while there is nothing to send: where a job stands that waits, if that is known."""
    job = await desk.glance(job_id)
    if job is None or job.position is None:
        return COMMENT
    eta = "" if job.eta_seconds is None else f", about {job.eta_seconds:g} s"
    return f": queued, position {job.position}{eta}\r\n".encode()


def is_comment(event: bytes) -> bool:
    """Say whether this only shows that the stream is alive."""
    return event.startswith(b":")


def _lost(job_id: str) -> ApiError:
    text = f"the attempt that was streamed is lost; {_RESULT.format(job_id)} will have all of it"
    return _broken(job_id, text)


def _broken(job_id: str, text: str) -> ApiError:
    return ApiError(502, "stream_broken", text, job_id=job_id)
