"""`respool pause` and `resume`."""

import json
from typing import Any
from urllib.parse import quote

import click

from cli.client import call, json_option, url_option


@click.command()
@click.argument("queue")
@click.option("--reason", help="For whoever reads the log.")
@json_option
@url_option
def pause(queue: str, reason: str | None, as_json: bool, url: str) -> None:
    """Let no job of QUEUE be claimed until it is resumed; what runs already goes on.

    \b
    Example: respool pause default --reason "moving the models"
    """
    _print(call("POST", url, f"{_path(queue)}/pause", json={"reason": reason}), as_json)


@click.command()
@click.argument("queue")
@json_option
@url_option
def resume(queue: str, as_json: bool, url: str) -> None:
    """Let the jobs of QUEUE be claimed again.

    \b
    Example: respool resume default
    """
    _print(call("POST", url, f"{_path(queue)}/resume"), as_json)


def _path(queue: str) -> str:
    return f"/v1/queues/{quote(queue, safe='')}"


def _print(response: Any, as_json: bool) -> None:
    state = response.json()
    if as_json:
        click.echo(json.dumps(state))
        return
    is_now = "is paused" if state["paused"] else "is not paused"
    counts = ", ".join(f"{state[name]} {name}" for name in ("waiting", "scheduled", "running"))
    click.echo(f"{state['name']} {is_now}: {counts}")
