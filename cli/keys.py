"""`respool keys`: making, looking at, rotating and revoking API keys, in the store itself."""

import getpass
import json
import os
from contextlib import suppress
from typing import Any, Final

import click
from msgspec import to_builtins
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.keyring import OPERATOR
from api.schemas import timestamp
from cli.client import ClientError, json_option
from cli.key_store import in_the_key_book
from cli.params import DURATION, NAME
from cli.process import host_name
from core.access import DEFAULT_TENANT, KeyLimits, Scope
from core.api_keys import ApiKey, KeyMade, KeyRevoked, KeyRotated, digest_of
from core.key_book import KeyBook, new_key_id, new_secret

_PIPED_WIDTH: Final = 250
_SHOWN_ONCE: Final = (
    "The secret is shown this once, and kept nowhere. Clients send it as OPENAI_API_KEY, or in the "
    "header `Authorization: Bearer …`."
)


_AT_LEAST_1: Final = click.IntRange(1)


@click.group()
def keys() -> None:
    """API keys: whose jobs are whose, and what each key may do.

    At REDIS_URL; without it, in the store of `respool up` on RESPOOL_DATA_DIR, whether or not that runs.
    An API takes note of a change at once. It asks everybody for a key if OPENAI_API_KEY_REQUIRED=true.
    """


@keys.command()
@click.argument("name", type=NAME)
@click.option("--tenant", type=NAME, default=DEFAULT_TENANT, show_default=True)
@click.option("--all-tenants", is_flag=True, help="It sees everybody's jobs.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    default=("submit", "read"),
    show_default=True,
    help="Several times for several: submit jobs, read them and lists, operate queues and bulk.",
)
@click.option("--requests-per-minute", type=_AT_LEAST_1)
@click.option("--tokens-per-minute", type=_AT_LEAST_1)
@click.option("--jobs-in-flight", type=_AT_LEAST_1, help="That have not ended.")
@click.option("--streams", type=_AT_LEAST_1, help="Open at once, in one API process.")
@click.option("--expires-in", type=DURATION, help="Such as 90d, 24h, 30m; else it never does.")
@json_option
def make(
    name: str,
    tenant: str,
    all_tenants: bool,
    scopes: tuple[str, ...],
    expires_in: int | None,
    as_json: bool,
    **limits: int | None,
) -> None:
    """Make a key, and show its secret once. A name is never used twice.

    \b
    Example: respool keys make dashboards --tenant team-a --scope read
             respool keys make batch --tenant team-b --requests-per-minute 600 --expires-in 90d
             OPENAI_API_KEY=$(respool keys make me --all-tenants --scope operate --scope read)
    """
    if name == OPERATOR.name:
        message = f"{name!r} is the name of the key that OPENAI_API_KEY sets; take another one"
        raise click.BadParameter(message, param_hint="NAME")
    secret = new_secret()
    event = KeyMade(
        key=new_key_id(),
        by=_whoever_asks(),
        name=name,
        tenant=tenant,
        all_tenants=all_tenants,
        scopes=tuple(scope for scope in Scope if scope in scopes),
        limits=KeyLimits(**limits),
        digest=digest_of(secret),
        expires_in_ms=expires_in,
    )

    async def work(book: KeyBook) -> tuple[ApiKey, float]:
        return await book.record(event), book.now_ms()

    key, now_ms = in_the_key_book(work, may_begin=True)
    _tell_secret(key, now_ms, secret, as_json=as_json)


@keys.command("list")
@click.option("--all", "all_", is_flag=True, help="Those too that were revoked or have expired.")
@json_option
def list_(all_: bool, as_json: bool) -> None:
    """List the keys; of their secrets nothing is kept that could be shown.

    \b
    Example: respool keys list --all
    """

    async def work(book: KeyBook) -> tuple[list[ApiKey], float]:
        await book.catch_up()
        return list(book.keys.values()), book.now_ms()

    found, now_ms = in_the_key_book(work)
    shown = [key for key in found if all_ or key.status(now_ms) not in {"revoked", "expired"}]
    if as_json:
        click.echo(json.dumps({"keys": [_as_json(key, now_ms) for key in shown]}))
        return
    table = Table(box=None, header_style="dim")
    for column in ("name", "id", "tenant", "scopes", "limits", "status", "made", "expires"):
        table.add_column(column)
    for key in shown:
        table.add_row(*(Text(cell) for cell in _row(key, now_ms)))
    console = Console()
    Console(width=None if console.is_terminal else _PIPED_WIDTH).print(table)


@keys.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show a key, by its name or id, and who did what to it, and when.

    \b
    Example: respool keys show dashboards
    """
    found, now_ms = in_the_key_book(lambda book: _found(book, key))
    if as_json:
        click.echo(json.dumps(_as_json(found, now_ms)))
        return
    for name, value in _as_json(found, now_ms).items():
        if name != "history" and value not in (None, {}):
            click.echo(f"{name:12}{', '.join(value) if isinstance(value, list) else value}")
    for change in found.history:
        click.echo(f"{timestamp(change.at_ms)}  {change.what} by {change.by}")


@keys.command()
@click.argument("key")
@click.option(
    "--grace",
    type=DURATION,
    default="24h",
    show_default=True,
    help="For so long the secret before it goes on; 0s: it stops now.",
)
@json_option
def rotate(key: str, grace: int, as_json: bool) -> None:
    """Give a key a new secret, and show that once. All else of it stays.

    \b
    Example: respool keys rotate dashboards --grace 7d
    """
    secret = new_secret()

    async def work(book: KeyBook) -> tuple[ApiKey, float]:
        found, now_ms = await _found(book, key)
        if not found.is_live(now_ms):
            status = found.status(now_ms)
            raise ClientError(f"the key {found.name!r} is {status}; make another one")
        event = KeyRotated(
            key=found.id, by=_whoever_asks(), digest=digest_of(secret), grace_ms=grace
        )
        return await book.record(event), book.now_ms()

    rotated, now_ms = in_the_key_book(work)
    _tell_secret(rotated, now_ms, secret, as_json=as_json)


@keys.command()
@click.argument("key")
@json_option
def revoke(key: str, as_json: bool) -> None:
    """Put a key out of force, for good. What it has submitted stays.

    \b
    Example: respool keys revoke dashboards
    """

    async def work(book: KeyBook) -> tuple[ApiKey, float]:
        found, now_ms = await _found(book, key)
        if found.revoked_ms is None:
            found = await book.record(KeyRevoked(key=found.id, by=_whoever_asks()))
        return found, now_ms

    revoked, now_ms = in_the_key_book(work)
    if as_json:
        click.echo(json.dumps(_as_json(revoked, now_ms)))
    else:
        click.echo(f"revoked  {revoked.name} ({revoked.id})")


async def _found(book: KeyBook, name: str) -> tuple[ApiKey, float]:
    await book.catch_up()
    key = book.named(name)
    if key is None:
        raise ClientError(f"there is no key {name!r}; `respool keys list --all` has them all")
    return key, book.now_ms()


def _whoever_asks() -> str:
    user = str(os.getuid())
    with suppress(KeyError, OSError):  # A container's user may have no name.
        user = getpass.getuser()
    return f"{user}@{host_name()}"


def _tell_secret(key: ApiKey, now_ms: float, secret: str, *, as_json: bool) -> None:
    """The secret alone on standard output, so that a script can take it."""
    if as_json:
        click.echo(json.dumps({**_as_json(key, now_ms), "secret": secret}))
        return
    sees = "everybody's jobs" if key.all_tenants else f"the jobs of {key.tenant!r}"
    click.echo(f"{key.name} ({key.id}): {', '.join(key.scopes)}; sees {sees}", err=True)
    click.echo(secret)
    click.echo(_SHOWN_ONCE, err=True)


def _as_json(key: ApiKey, now_ms: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "status": key.status(now_ms),
        "tenant": key.tenant,
        "all_tenants": key.all_tenants,
        "scopes": [scope.value for scope in key.scopes],
        "limits": to_builtins(key.limits),
        "made_at": timestamp(key.made_ms),
        "expires_at": None if key.expires_ms is None else timestamp(key.expires_ms),
        "revoked_at": None if key.revoked_ms is None else timestamp(key.revoked_ms),
        "history": [
            {"at": timestamp(one.at_ms), "what": one.what, "by": one.by} for one in key.history
        ],
    }


def _row(key: ApiKey, now_ms: float) -> tuple[str, ...]:
    limits = to_builtins(key.limits)
    return (
        key.name,
        key.id,
        f"{key.tenant} (sees all)" if key.all_tenants else key.tenant,
        ",".join(key.scopes),
        " ".join(f"{name}={value}" for name, value in limits.items()) or "-",
        key.status(now_ms),
        timestamp(key.made_ms),
        "-" if key.expires_ms is None else timestamp(key.expires_ms),
    )
