"""`respool submit` and `show`."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.client import ClientError, call, job_path, json_option, url_option
from cli.events import transitions
from cli.watch import watch_job


class Seconds(click.ParamType[float]):
    """A number of seconds; not the infinite or undefined ones that Python also reads as numbers."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            self.fail(f"{value!r}: takes a number of seconds, such as 1.5", param, ctx)
        return seconds


SECONDS = Seconds()
_REQUESTS = {"chat": "messages", "completions": "prompt", "embeddings": "input"}


_ENDED_BADLY = frozenset({"failed", "cancelled", "expired"})


@click.command()
@click.argument("prompt", required=False)
@click.option("--model", required=True, help="A model that a worker serves.")
@click.option("--request", "request_path", metavar="FILE", help="The request as JSON; - for stdin.")
@click.option("--kind", type=click.Choice(list(_REQUESTS)), default="chat", show_default=True)
@click.option("--queue", help="Default: default.")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]))
@click.option("--delay", "delay_seconds", type=SECONDS, metavar="SECONDS", help="Not before that.")
@click.option(
    "--deadline", "deadline_seconds", type=SECONDS, metavar="SECONDS", help="Start by then."
)
@click.option(
    "--timeout", "timeout_seconds", type=SECONDS, metavar="SECONDS", help="For an attempt."
)
@click.option("--max-attempts", type=int)
@click.option("--metadata", multiple=True, metavar="KEY=VALUE")
@click.option("--idempotency-key", help="The same request under the same key is one job.")
@click.option(
    "--wait", type=click.IntRange(0), metavar="SECONDS", help="Wait so long for the job to end."
)
@click.option("--watch", "and_watch", is_flag=True, help="Show its transitions and tokens.")
@json_option
@url_option
def submit(
    prompt: str | None,
    request_path: str | None,
    idempotency_key: str | None,
    wait: int | None,
    and_watch: bool,
    as_json: bool,
    url: str,
    metadata: tuple[str, ...],
    **fields: Any,
) -> None:
    """Submit a job: PROMPT, or a whole request from a file.

    With --wait or --watch: exit status 1 if the job fails, expires or is cancelled.

    \b
    Example: respool submit --model gemma3-270m --watch "What is the capital of France?"
             respool submit --model llama3.2 --request request.json --wait 60
    """
    body = {name: value for name, value in fields.items() if value is not None}
    body["request"] = _request(prompt, request_path, fields["kind"])
    if metadata:
        body["metadata"] = dict(_pair(text) for text in metadata)
    headers = {}
    if idempotency_key is not None:
        if not (idempotency_key.isascii() and idempotency_key.isprintable()):
            raise click.BadParameter("takes printable ASCII", param_hint="--idempotency-key")
        headers["Idempotency-Key"] = idempotency_key
    if wait is not None:
        headers["Prefer"] = f"wait={wait}"
    job = call("POST", url, "/v1/jobs", json=body, headers=headers).json()
    if and_watch:
        watch_job(url, job["id"], as_json=as_json)
        return
    print_job(job, as_json=as_json)
    if wait is not None and job["status"] in _ENDED_BADLY:
        sys.exit(1)


def _request(prompt: str | None, path: str | None, kind: str) -> Any:
    if (prompt is None) == (path is None):
        raise click.UsageError("give either a PROMPT or --request FILE")
    if path is None:
        said: Any = [{"role": "user", "content": prompt}] if kind == "chat" else prompt
        return {_REQUESTS[kind]: said}
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        return json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"--request {path}: {error}") from error
    except ValueError as error:
        raise ClientError(f"--request {path} is not valid JSON: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r}: takes KEY=VALUE", param_hint="--metadata")
    return key, value


@click.command()
@click.argument("job_id")
@click.option("--result", "only_result", is_flag=True, help="Print the result alone.")
@json_option
@url_option
def show(job_id: str, only_result: bool, as_json: bool, url: str) -> None:
    """Show a job and its transitions, or with --result what it answered.

    \b
    Example: respool show 06bq3w8m5t1v0zyh200
    """
    if only_result:
        click.echo(call("GET", url, f"{job_path(job_id)}/result").text)
        return
    job = call("GET", url, job_path(job_id)).json()
    events = call("GET", url, f"{job_path(job_id)}/events").json()["events"]
    if as_json:
        click.echo(json.dumps(job | {"events": events}))
        return
    print_job(job, as_json=False)
    Console().print(transitions(events))


def print_job(job: dict[str, Any], *, as_json: bool) -> None:
    """A job, as a table of what it has."""
    if as_json:
        click.echo(json.dumps(job))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in job.items():
        if value not in (None, {}, []):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            table.add_row(name, Text(text))  # As it is: a value may look like rich's markup.
    Console().print(table)
