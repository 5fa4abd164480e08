"""A job's output as OpenAI streams it: chunks, the usage if it was asked for, and `[DONE]`.

Nothing of an attempt that was lost before its first chunk is seen; one that is lost later ends the
stream with an error that names the job, since what was sent cannot be taken back.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec
from litestar.response.sse import ServerSentEventMessage

from api.desk import Desk
from api.errors import ApiError, error_view
from api.openai.outcomes import failure, stopping
from api.openai.schemas import usage_chunk
from api.streams import COMMENT, COMMENT_EVERY_SECONDS
from core.bells import Bell
from core.errors import StoreUnavailable
from core.events import Completed, Kind
from core.output import Chunk, read_output
from core.states import has_ended

_CHUNK_OBJECTS: Final = {Kind.CHAT: "chat.completion.chunk", Kind.COMPLETIONS: "text_completion"}
_DONE: Final = b"[DONE]"
_CHUNKS_PER_READ: Final = 500
_STORE_AWAY_SECONDS: Final = 1.0


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
    cursor = "0-0"
    while True:
        try:
            # The head before the chunks: a job ends only after its last chunk was written.
            view = await desk.require(job_id)
            chunks = await read_output(desk.store, job_id, cursor, _CHUNKS_PER_READ)
        except StoreUnavailable:
            await bell.wait(_STORE_AWAY_SECONDS)
            if bell.is_closing:
                raise stopping(job_id) from None
            yield COMMENT
            continue
        for chunk in chunks:
            if trouble := _does_not_follow(cursor, chunk):
                raise ApiError(502, "stream_broken", trouble, job_id=job_id)
            cursor = chunk.id
            yield message(chunk.data)
        if len(chunks) == _CHUNKS_PER_READ:
            continue
        if has_ended(view.head.job):
            if not isinstance(view.last, Completed):
                raise failure(job_id, view)
            usage = usage_chunk(bytes(view.last.result), _CHUNK_OBJECTS[kind])
            if wants_usage and usage is not None:
                yield message(msgspec.json.encode(usage))
            yield message(_DONE)
            return
        if not await bell.wait(COMMENT_EVERY_SECONDS):
            yield COMMENT
        if bell.is_closing:
            raise stopping(job_id)


def _does_not_follow(cursor: str, chunk: Chunk) -> str | None:
    """Why a chunk cannot be sent after the one at `cursor`; None if it can."""
    claim, sequence = map(int, cursor.split("-"))
    if claim not in {0, chunk.claim}:
        return (
            "the attempt that was streamed is lost; the job goes on, and its result will have all"
        )
    if chunk.sequence != (sequence + 1 if claim else 1):
        return "some of the stream was dropped; the job goes on, and its result will have all"
    return None
