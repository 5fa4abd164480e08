"""`respool events`: everything that happens, live."""

import asyncio
import json
from typing import Any

import click
from httpx_sse import ServerSentEvent

from cli.client import ClientError, json_option, url_option
from cli.events import what_of
from cli.sse import follow, stream_client


@click.command()
@click.option("--type", "types", help="Only events of these types, with commas between them.")
@click.option("--queue", help="Only events of this queue and its jobs.")
@click.option("--from", "from_", help="Begin after this position; 0-0 is the beginning of the log.")
@json_option
@url_option
def events(
    types: str | None, queue: str | None, from_: str | None, as_json: bool, url: str
) -> None:
    """Show all events as they come, until it is interrupted.

    What is missing in the log, as it was trimmed or lost, is shown as `resync`.

    \b
    Example: respool events --queue default --type completed,failed
             respool events --from 0-0 --json
    """
    asked = {"type": types, "queue": queue, "from": from_}
    parameters = {name: value for name, value in asked.items() if value is not None}
    asyncio.run(_show(url.rstrip("/") + "/v1/events", parameters, as_json=as_json))


async def _show(url: str, parameters: dict[str, str], *, as_json: bool) -> None:
    async def on_message(message: ServerSentEvent) -> None:
        event = message.json()
        if message.event == "error":
            raise ClientError(event["error"]["message"])
        if message.event != "position":
            click.echo(_as_json(message, event) if as_json else _line(message.event, event))

    async with stream_client() as client:
        await follow(client, url, on_message, lambda _: False, params=parameters)


def _as_json(message: ServerSentEvent, event: dict[str, Any]) -> str:
    return json.dumps({"type": message.event} | event)


def _line(kind: str, event: dict[str, Any]) -> str:
    if kind == "resync":
        return f"resync: events are missing: {what_of(event)}"
    subject = event.get("job_id", "")
    rest = {name: value for name, value in event.items() if name not in {"job_id", "tenant"}}
    return f"{event['at']}  {subject:19}  {kind:16}  {what_of(rest)}".rstrip()
