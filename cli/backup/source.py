"""The store that a backup is made of, or restored into: at REDIS_URL, or that of `respool up`."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.embedded import DataDirError, embedded_store, running_store
from cli.opening import without_password
from core.errors import StoreError, StoreNotReady
from core.redis import connect, is_of_a_cluster
from core.settings import Settings

Told = Callable[[int, int | None], None]


@asynccontextmanager
async def the_redis(settings: Settings, *, may_begin: bool) -> AsyncIterator[Redis]:
    """A client of the store's Redis; the embedded one is started for a moment if it does not run.

    It has to be there, unless it `may_begin`. Raises DataDirError, StoreError with the URL in it.
    """
    if settings.redis_url is not None:
        async with _connected(settings.redis_url) as client:
            yield client
        return
    try:
        url = await running_store(settings.respool_data_dir)
    except DataDirError:
        if not may_begin and not settings.respool_data_dir.exists():
            raise
        async with (
            embedded_store(settings.respool_data_dir, settings.durability) as url,
            _connected(url) as client,
        ):
            yield client
    else:
        async with _connected(url) as client:
            yield client


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Redis]:
    if is_of_a_cluster(url):
        raise StoreNotReady(
            "a cluster has no backup of one moment: each node has one of its own (docs/cluster.md)"
        )
    client = connect(url)
    try:
        yield client
    except StoreError as error:
        raise type(error)(f"{error} (the store is {without_password(url)})") from error
    finally:
        await client.aclose()


@contextmanager
def bar(what: str) -> Iterator[Told]:
    """A bar of bytes, where somebody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _, __: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)
