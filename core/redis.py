"""Connections to Redis, and its errors in our terms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from redis import exceptions
from redis.asyncio import Redis, SSLConnection

from core import connections
from core.connections import client_of, pool_of
from core.errors import StoreDenied, StoreError, StoreFull, StoreUnavailable
from core.nodes import SCHEMES, ClusterClient, seeds_in

REPLY_TIMEOUT_SECONDS: Final = connections.REPLY_TIMEOUT_SECONDS

# Codes of replies that say «not now», which a later call may not get.
_TRANSIENT: Final = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)


def connect(url: str) -> Redis:
    """A client for `url`, which connects when it is first used. It retries nothing by itself."""
    return ClusterClient(url) if is_of_a_cluster(url) else client_of(url)


def is_of_a_cluster(url: str) -> bool:
    """Say whether a URL names nodes of a Redis Cluster."""
    return urlsplit(url).scheme in SCHEMES


def check_url(url: str) -> None:
    """Raises ValueError, in plain words, for a URL that `connect` has no use for."""
    if is_of_a_cluster(url):
        seeds = seeds_in(url)
        url = seeds.url(seeds.addresses[0])
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdigit():
        raise ValueError(f"has {database!r} where the number of a database stands")
    options = ", ".join(sorted(name for name, _ in parse_qsl(parts.query)))
    try:
        connection = pool_of(url).make_connection()
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()  # Reads the files that it names.
    except TypeError as error:  # An option of the URL that no connection knows.
        raise ValueError(f"has an option that there is not: {options}") from error
    except exceptions.RedisError as error:  # A value that an option does not take.
        raise ValueError(f"{error} (of {options})") from error
    except OSError as error:
        raise ValueError(f"names a file that cannot be used: {error} ({options})") from error


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Wait for Redis's answer, and no longer than REPLY_TIMEOUT_SECONDS.

    Raises Redis's errors as ours: StoreUnavailable, StoreFull, StoreDenied; what is none of these is a
    StoreError. The limit is here and not redis-py's own, as that one is kept with `asyncio.wait_for`,
    which on Python 3.11 loses a cancellation that comes at the moment of the answer.
    """
    try:
        async with asyncio.timeout(REPLY_TIMEOUT_SECONDS):
            yield
    except (exceptions.RedisError, OSError) as error:
        raise our_error(error) from error


def our_error(error: exceptions.RedisError | OSError) -> StoreError:
    """What an error of Redis, of its client or of the network is in our terms."""
    code, text = _parsed(error)
    if isinstance(error, exceptions.MovedError):
        return StoreUnavailable(
            f"Redis is a node of a cluster, and another one has this key ({text}): if REDIS_URL begins with "
            "redis://, it has to be redis-cluster://"
        )
    if isinstance(error, exceptions.AskError):
        return StoreUnavailable(f"Redis cannot do it just now: a slot is being moved ({text})")
    if code in _TRANSIENT:
        return StoreUnavailable(f"Redis cannot do it just now: {code} {text}")
    match error:
        case exceptions.OutOfMemoryError():
            return StoreFull("Redis is out of memory and takes no new jobs")
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return StoreDenied(f"Redis refuses the user or the password of REDIS_URL: {text}")
        case exceptions.NoPermissionError():
            return StoreDenied(f"Redis does not let the user of REDIS_URL do this: {text}")
        case exceptions.ResponseError():
            return StoreError(
                f"Redis refused: {text}" if code is None else f"Redis refused: {code} {text}"
            )
        case _:
            return StoreUnavailable(f"Redis does not answer: {text}")


def is_transient(reply: str) -> bool:
    """Say whether an error reply, its code in front, is one that a later call may not get."""
    return reply.partition(" ")[0] in _TRANSIENT


def _parsed(error: Exception) -> tuple[str | None, str]:
    """An error's code, if it has one, and its text: redis-py takes the codes that it knows off the text."""
    text = str(error) or type(error).__name__
    known = error.status_code if isinstance(error, exceptions.RedisError) else None
    if known is not None:
        return known, text
    first, _, rest = text.partition(" ")
    is_reply = isinstance(error, exceptions.ResponseError)
    return (first, rest) if is_reply and first.isupper() else (None, text)
