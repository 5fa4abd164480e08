"""A job's output as OpenAI streams it: chunks, the usage if it was asked for, and `[DONE]`.

Nothing of an attempt that was lost before its first chunk is seen; one that is lost later ends the
stream with an error that names the job, since what was sent cannot be taken back.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Final

import msgspec
from litestar.response.sse import ServerSentEventMessage

from api.desk import Desk
from api.errors import STORE_AWAY, STORE_AWAY_SECONDS, ApiError, error_view
from api.openai.outcomes import failure, newer, stopping
from api.openai.schemas import usage_chunk
from api.streams import COMMENT, COMMENT_EVERY_SECONDS, is_missing_after
from core.bells import Bell
from core.errors import FromTheFuture
from core.events import Completed, Kind
from core.head import Head
from core.output import Chunk, read_output
from core.states import has_ended
from core.store import View

_CHUNK_OBJECTS: Final = {Kind.CHAT: "chat.completion.chunk", Kind.COMPLETIONS: "text_completion"}
_DONE: Final = b"[DONE]"
_CHUNKS_PER_READ: Final = 500
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
    cursor, has_sent = "0-0", False
    while True:
        try:
            # The head before the chunks: a job ends only after its last chunk was written.
            head = await desk.store.load(job_id)
            ended = await desk.store.view(job_id) if head and has_ended(head.job) else None
            if head is None:
                raise ApiError(404, "job_not_found", f"there is no job {job_id}", job_id=job_id)
            if not has_sent:
                cursor = _start(head, ended)
            chunks = await read_output(desk.store, job_id, cursor, _CHUNKS_PER_READ)
        except STORE_AWAY:
            await bell.wait(STORE_AWAY_SECONDS)
            if bell.is_closing:
                raise stopping(job_id) from None
            yield COMMENT
            continue
        except FromTheFuture as error:
            raise newer(job_id, error) from error
        for chunk in chunks:
            _check_follows(job_id, cursor, chunk, has_sent=has_sent)
            cursor, has_sent = chunk.id, True
            yield message(chunk.data)
        if len(chunks) == _CHUNKS_PER_READ:
            continue
        if ended is not None:
            for last in _closing(job_id, ended, cursor, kind, wants_usage):
                yield last
            return
        if not await bell.wait(COMMENT_EVERY_SECONDS):
            yield COMMENT
        if bell.is_closing:
            raise stopping(job_id)


def _start(head: Head, ended: View | None) -> str:
    """Where the output of the attempt that counts begins: what came before it is of lost ones."""
    completed = ended.last if ended and isinstance(ended.last, Completed) else None
    return f"{completed.claim if completed else head.job.claims}-0"


def _closing(
    job_id: str, ended: View, cursor: str, kind: Kind, wants_usage: bool
) -> Iterator[bytes]:
    """What comes after the last chunk. Raises ApiError if the job did not complete, or some is missing."""
    if not isinstance(ended.last, Completed):
        raise failure(job_id, ended)
    if is_missing_after(cursor, ended.last):
        raise _broken(job_id, f"some of the stream is gone; {_RESULT.format(job_id)} has all of it")
    usage = usage_chunk(bytes(ended.last.result), _CHUNK_OBJECTS[kind])
    if wants_usage and usage is not None:
        yield message(msgspec.json.encode(usage))
    yield message(_DONE)


def _check_follows(job_id: str, cursor: str, chunk: Chunk, *, has_sent: bool) -> None:
    """Raises ApiError if a chunk cannot be sent after the one at `cursor`."""
    claim, sequence = map(int, cursor.split("-"))
    if claim != chunk.claim and has_sent:
        text = (
            f"the attempt that was streamed is lost; {_RESULT.format(job_id)} will have all of it"
        )
        raise _broken(job_id, text)
    if chunk.sequence != (sequence + 1 if claim == chunk.claim else 1):
        text = f"some of the stream was dropped; {_RESULT.format(job_id)} will have all of it"
        raise _broken(job_id, text)


def _broken(job_id: str, text: str) -> ApiError:
    return ApiError(502, "stream_broken", text, job_id=job_id)
