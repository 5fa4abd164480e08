"""Where `respool keys` finds the keys: in the store itself, which it starts if nobody does."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from cli.embedded import DataDirError, embedded_store, running_store
from cli.loop import run
from cli.opening import without_password
from cli.process import settings_of_environment
from core.errors import StoreError
from core.key_book import KeyBook
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.settings import Settings
from migrations.runner import CannotFold, migrate


def in_the_key_book(
    work: Callable[[KeyBook], Coroutine[Any, Any, Any]], *, may_begin: bool = False
) -> Any:
    """What `work` makes of the keys of the store that the environment names.

    Raises StoreError, SettingsError, DataDirError; the last if there is no store yet, unless the work
    `may_begin` one.
    """

    async def role() -> Any:
        async with _book(may_begin=may_begin) as book:
            return await work(book)

    return run(role())


@asynccontextmanager
async def _book(*, may_begin: bool) -> AsyncIterator[KeyBook]:
    settings = settings_of_environment()
    async with AsyncExitStack() as stack:
        url = settings.redis_url or await _embedded(stack, settings, may_begin=may_begin)
        client = connect(url)
        stack.push_async_callback(client.aclose)
        try:
            yield KeyBook(client)
        except StoreError as error:
            raise type(error)(f"{error} (the store is {without_password(url)})") from error


async def _embedded(stack: AsyncExitStack, settings: Settings, *, may_begin: bool) -> str:
    """The store of `respool up`; started for a moment if that does not run, as it may want a key first."""
    try:
        return await running_store(settings.respool_data_dir)
    except DataDirError:
        if not may_begin and not settings.respool_data_dir.exists():
            raise
        store = embedded_store(settings.respool_data_dir, settings.durability)
        url = await stack.enter_async_context(store)
    client = connect(url)
    try:
        with suppress(CannotFold):  # `respool up` says so.
            await migrate(client, bounds=settings.bounds(REPLY_TIMEOUT_SECONDS))
    finally:
        await client.aclose()
    return url
