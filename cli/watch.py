"""`respool watch`: a job's transitions and tokens, live."""

import asyncio
import json
import sys
from typing import Any, Final

import click
from httpx_sse import ServerSentEvent
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cli.client import job_path, json_option, url_option
from cli.events import transitions, what_of
from cli.sse import follow, stream_client

_ENDINGS: Final = frozenset({"completed", "failed", "cancelled", "expired"})


@click.command()
@click.argument("job_id")
@json_option
@url_option
def watch(job_id: str, as_json: bool, url: str) -> None:
    """Show a job's transitions and tokens as they come, until it ends.

    Exit status 1 if it does not end as completed.

    \b
    Example: respool watch 06bq3w8m5t1v0zyh200
    """
    watch_job(url, job_id, as_json=as_json)


def watch_job(url: str, job_id: str, *, as_json: bool) -> None:
    """Follow a job to its end; exits with 1 unless that is `completed`. Raises ClientError."""
    if as_json:
        view: _View = _JsonView()
    elif sys.stdout.isatty():
        view = _LiveView()
    else:
        view = _PlainView()
    with view:
        ending = asyncio.run(_follow(url.rstrip("/") + job_path(job_id), view))
    if ending != "completed":
        sys.exit(1)


class _View:
    """Where a job's life is shown."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def token(self, text: str) -> None:
        raise NotImplementedError

    def discard(self) -> None:
        raise NotImplementedError


class _JsonView(_View):
    def event(self, event: dict[str, Any]) -> None:
        click.echo(json.dumps(event))

    def token(self, text: str) -> None:
        click.echo(json.dumps({"type": "token", "text": text}))

    def discard(self) -> None:
        click.echo(json.dumps({"type": "discard"}))


class _PlainView(_View):
    """One line an event, the tokens as they are between them."""

    _in_text = False

    def event(self, event: dict[str, Any]) -> None:
        self._end_text()
        click.echo(f"{event['at']}  {event['type']}  {what_of(event)}")

    def token(self, text: str) -> None:
        self._in_text = True
        click.echo(text, nl=False)

    def discard(self) -> None:
        self._end_text()
        click.echo("(that attempt is over: what came before is void)")

    def _end_text(self) -> None:
        if self._in_text:
            click.echo()
        self._in_text = False


class _LiveView(_View):
    """A table of transitions over the text, both growing."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._text = ""
        self._live = Live(console=Console(), refresh_per_second=20, vertical_overflow="visible")

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self._draw()

    def token(self, text: str) -> None:
        self._text += text
        self._draw()

    def discard(self) -> None:
        self._text = ""
        self._draw()

    def _draw(self) -> None:
        self._live.update(Group(transitions(self._events), Text(), Text(self._text.strip())))


async def _follow(path: str, view: _View) -> str:
    """Show a job until it ends; the event that ended it.

    Two streams, shown as one: tokens after the claim that they come from, the ending after them.
    """
    begun = asyncio.Event()

    async def on_event(message: ServerSentEvent) -> None:
        if message.event in _ENDINGS:
            begun.set()
            await asyncio.wait({output})
        view.event(message.json())
        if message.event == "claimed":
            begun.set()

    async def on_output(message: ServerSentEvent) -> None:
        await begun.wait()
        if message.event == "chunk":
            view.token(text_of(message.json()))
        elif message.event == "attempt_lost":
            view.discard()

    async with stream_client() as client:
        output = asyncio.create_task(follow(client, f"{path}/output", on_output, _is_ending))
        try:
            ending = await follow(client, f"{path}/events", on_event, _is_ending)
            await output  # It ends with the job too.
            return ending
        finally:
            output.cancel()
            await asyncio.gather(output, return_exceptions=True)


def _is_ending(message: ServerSentEvent) -> bool:
    return message.event in _ENDINGS


def text_of(chunk: dict[str, Any]) -> str:
    """What a chunk of any kind adds to the answer of its first choice."""
    choices = chunk.get("choices") or [{}]
    delta = choices[0].get("delta", {})
    return str(delta.get("content") or choices[0].get("text") or "")
