"""API keys in the store: what is kept, and what follows from it in every process that reads it."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from core import key_book
from core.access import Scope
from core.api_keys import KeyMade, KeyRevoked, digest_of
from core.errors import StoreNotReady
from core.key_book import KeyBook, NameTaken, new_key_id, new_secret
from core.keys import API_KEYS
from core.redis import connect
from core.store import EventStore
from tests.servers import RedisServer


def made(name: str, secret: str = "a secret") -> KeyMade:
    return KeyMade(
        key=new_key_id(), by="us", name=name, scopes=(Scope.READ,), digest=digest_of(secret)
    )


async def test_a_key_is_read_as_it_was_made(store: EventStore) -> None:
    key = await KeyBook(store.client).record(made("mine"))
    book = KeyBook(store.client)
    assert await book.catch_up()
    assert book.named("mine") == key == book.named(key.id)
    assert not await book.catch_up()


async def test_times_are_the_stores(store: EventStore) -> None:
    before = await _clock_ms(store.client)
    book = KeyBook(store.client)
    key = await book.record(made("mine"))
    assert before <= key.made_ms <= await _clock_ms(store.client)
    assert abs(book.now_ms() - await _clock_ms(store.client)) < 1_000


async def _clock_ms(client: Redis) -> int:
    seconds, microseconds = await client.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


async def test_a_name_is_never_used_twice(store: EventStore) -> None:
    book = KeyBook(store.client)
    key = await book.record(made("mine"))
    await book.record(KeyRevoked(key=key.id, by="us"))
    with pytest.raises(NameTaken, match="mine"):
        await KeyBook(store.client).record(made("mine"))
    assert await store.client.xlen(API_KEYS) == 2


async def test_of_two_that_are_made_at_once_one_is_there(store: EventStore) -> None:
    books = [KeyBook(store.client) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(book.record(made("mine")) for book in books), return_exceptions=True
    )
    [key] = [one for one in outcomes if not isinstance(one, BaseException)]
    assert all(isinstance(one, NameTaken) for one in outcomes if one is not key)
    for book in books:
        await book.catch_up()
        assert book.keys == {key.id: key}


async def test_no_secret_is_in_the_store(store: EventStore) -> None:
    secret = new_secret()
    await KeyBook(store.client).record(made("mine", secret))
    stored = str(await store.client.xrange(API_KEYS))
    assert digest_of(secret) in stored
    assert secret not in stored
    assert secret.removeprefix("sk-respool-") not in stored


async def test_more_keys_than_are_read_at_once(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_book, "_PER_READ", 3)
    book, late = KeyBook(store.client), KeyBook(store.client)
    for number in range(11):
        await book.record(made(f"key-{number}"))
        await book.catch_up()
    await late.catch_up()
    assert len(late.keys) == 11
    assert late.keys == book.keys


async def test_a_key_is_revoked_though_redis_is_full(store: EventStore) -> None:
    book = KeyBook(store.client)
    key = await book.record(made("mine"))
    await store.client.config_set("maxmemory", "1")
    try:
        assert (await book.record(KeyRevoked(key=key.id, by="us"))).revoked_ms is not None
    finally:
        await store.client.config_set("maxmemory", "0")


async def test_what_the_store_has_lost_is_forgotten(store: EventStore) -> None:
    book, other = KeyBook(store.client), KeyBook(store.client)
    kept = await book.record(made("kept"))
    gone = await book.record(made("gone"))
    await other.catch_up()
    entries: Any = await store.client.xrange(API_KEYS)
    await store.client.xdel(API_KEYS, entries[-1][0])
    assert await other.catch_up()
    assert other.keys == {kept.id: kept}
    assert gone.id not in other.keys
    await store.client.delete(API_KEYS)
    assert await other.catch_up()
    assert not other.keys
    assert not other.has_live


async def test_an_emptied_redis_is_no_store_without_keys(store: EventStore) -> None:
    book = KeyBook(store.client)
    key = await book.record(made("mine"))
    await store.client.flushall()
    with pytest.raises(StoreNotReady, match="respool migrate"):
        await book.catch_up()
    assert book.keys == {key.id: key}


async def test_what_a_newer_release_did_to_a_key_puts_it_out_of_force(store: EventStore) -> None:
    book = KeyBook(store.client)
    key, other = await book.record(made("mine")), await book.record(made("other"))
    newer = {"type": "key_narrowed", "key": key.id, "by": "us", "only_from": "10.0.0.0/8"}
    for event in (msgspec.json.encode(newer), b"no JSON", b'{"type":"key_revoked","key":"x"}'):
        await store.client.xadd(API_KEYS, {"e": event})
    await book.catch_up()
    assert book.keys[key.id].status(book.now_ms()) == "newer"
    assert book.keys[other.id].is_live(book.now_ms())


async def test_an_older_release_that_changes_a_key_does_not_bring_it_back(
    store: EventStore,
) -> None:
    book = KeyBook(store.client)
    key = await book.record(made("mine"))
    await store.client.xadd(
        API_KEYS, {"e": b'{"type":"key_narrowed","key":"%s"}' % key.id.encode()}
    )
    await book.record(KeyRevoked(key=key.id, by="us"))
    assert book.keys[key.id].status(book.now_ms()) == "revoked"


async def test_who_listens_hears_of_it(store: EventStore, server: RedisServer) -> None:
    client = connect(server.url)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("respool:bell:keys")
        await pubsub.get_message(timeout=5)
        await KeyBook(store.client).record(made("mine"))
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        assert message["channel"] == b"respool:bell:keys"
    await client.aclose()
