"""A client of a Redis Cluster: each command goes to the primary that has the slot of its key.

redis-py's own client of clusters sends again what got no reply, which may be a write; so this one routes, and
nothing more. What a node refused (MOVED) was not carried out, and is sent to whom it names. What got no reply is
the caller's, who knows its operation id. A command without a key goes to the node that has shard 0, where the
store's own keys are; `primaries` gives a client for each, for what has to be asked or told of all.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub

from core.connections import CONNECT_TIMEOUT_SECONDS, Client, client_of, pool_of
from core.slots import Address, Owners, key_in, owners_in, slot_of

SCHEMES: Final = {"redis-cluster": "redis", "rediss-cluster": "rediss"}
_HOPS_MAX: Final = 5
_HOME: Final = "respool:{0}:"
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


class Seeds(Struct, frozen=True):
    """What REDIS_URL says of a cluster: where to ask first, and how to connect to any of its nodes."""

    addresses: tuple[Address, ...]
    before: str  # Of a node's URL: up to its host.
    after: str

    def url(self, address: Address) -> str:
        return f"{self.before}{address}{self.after}"


def seeds_in(url: str) -> Seeds:
    """Read `redis-cluster://USER:PASSWORD@HOST:PORT,HOST:PORT`. Raises ValueError in plain words."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("names a database, and a cluster has one, 0")
    addresses = tuple(_seed(host) for host in hosts.split(","))
    query = f"?{parts.query}" if parts.query else ""
    return Seeds(addresses, f"{SCHEMES[parts.scheme]}://{user}{at}", f"/0{query}")


def _seed(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("names no host: redis-cluster://HOST:PORT,HOST:PORT")
    return Address(parts.hostname, parts.port or 6379)


class ClusterClient(Redis):
    """One client for all nodes."""

    def __init__(self, url: str) -> None:
        self._seeds = seeds_in(url)
        super().__init__(connection_pool=pool_of(self._seeds.url(self._seeds.addresses[0])))
        self._clients: dict[Address, Client] = {}
        self._owners: Owners | None = None  # None: to be looked up.
        self._looking: asyncio.Task[Owners] | None = None
        self._listens = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As any client's. Raises what the node's client does; MovedError if that goes round."""
        key = key_in(args)
        slot = slot_of(_HOME if key is None else key)
        for _ in range(_HOPS_MAX):
            node = await self._node(slot)
            try:
                answer = node.execute_command(*args, **options)  # type: ignore[no-untyped-call]
                return await self._watched(answer)
            except exceptions.MovedError:
                self._owners = None
        raise exceptions.ClusterDownError("CLUSTERDOWN its nodes do not agree on who has a slot")

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: ARG002
        return _ClusterPipeline(self, transaction)

    def pubsub(self, **options: Any) -> PubSub:
        """Of one node after the other: what is published at one of them comes to all."""
        known = self._owners.primaries if self._owners is not None else self._seeds.addresses
        self._listens += 1
        return self._client(known[self._listens % len(known)]).pubsub(**options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: ARG002
        if self._looking is not None:
            self._looking.cancel()
        for client in self._clients.values():
            await client.aclose()
        await super().aclose(True)

    async def primaries(self) -> list[Redis]:
        """A client for each node that has slots. Raises redis-py's errors."""
        return [self._client(address) for address in (await self.known()).primaries]

    async def node_of(self, key: str) -> Redis:
        """A client for the node that has a key. Raises redis-py's errors."""
        return await self._node(slot_of(key))

    async def _watched(self, answer: Any) -> Any:
        """The answer of a node. Whoever does not answer may not be the one to ask any more."""
        try:
            return await answer
        except (*_LOST, exceptions.ClusterDownError, asyncio.CancelledError):
            self._owners = None
            raise

    async def _node(self, slot: int) -> Client:
        address = (await self.known()).owner(slot)
        if address is None:
            self._owners = None
            raise exceptions.ClusterDownError(f"CLUSTERDOWN nobody has slot {slot}")
        return self._client(address)

    def _client(self, address: Address) -> Client:
        if address not in self._clients:
            self._clients[address] = client_of(self._seeds.url(address))
        return self._clients[address]

    async def known(self) -> Owners:
        """Who has which slots. Raises redis-py's errors if no node says so."""
        if self._owners is None:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            owners = await asyncio.shield(self._looking)  # Whoever else asks shares it.
            await self._leave_others(owners)
            self._owners = owners
            return owners
        return self._owners

    async def _look(self) -> Owners:
        """What the first node says that answers: one that hangs holds nobody up.

        Raises the last one's error if none does.
        """
        addresses = {*self._clients, *self._seeds.addresses}
        asking = [asyncio.create_task(self._ask(address)) for address in sorted(addresses)]
        error: BaseException = exceptions.ConnectionError("no node of the cluster answers")
        try:
            for answer in asyncio.as_completed(asking):
                try:
                    return await answer
                except (*_LOST, exceptions.RedisError) as one:
                    error = one
            raise error
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, address: Address) -> Owners:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            reply = await self._client(address).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        if not reply:
            raise exceptions.ClusterDownError(f"CLUSTERDOWN {address} knows of no slots")
        return owners_in(reply, address)

    async def _leave_others(self, owners: Owners) -> None:
        """Close what is idle to nodes that are none any more: a seed may be one of them, and is asked again."""
        gone = self._clients.keys() - set(owners.primaries) - set(self._seeds.addresses)
        for address in gone:
            with suppress(*_LOST):
                await self._clients.pop(address).connection_pool.disconnect(inuse_connections=False)


class _ClusterPipeline(Pipeline):
    """Commands for any number of nodes, to each of them in order and on one connection.

    Commands without a key go where the first one with a key does.
    """

    def __init__(self, cluster: ClusterClient, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """As any pipeline's. What was refused with MOVED was not carried out, and is sent again, in order.

        Unless there are commands without a key among them: those are about what else their connection did.
        """
        commands, replies = self.command_stack, [None] * len(self.command_stack)
        self.command_stack = []
        keys = [key_in(args) for args, _ in commands]
        first = next((key for key in keys if key is not None), _HOME)
        slots = [slot_of(key or first) for key in keys]
        left = list(range(len(commands)))
        for _ in range(_HOPS_MAX):
            await self._send(commands, slots, left, replies)
            left = [at for at in left if isinstance(replies[at], exceptions.MovedError)]
            if not left:
                break
            self._cluster._owners = None  # noqa: SLF001 - they are one.
            if self.is_transaction or None in keys:
                break
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, exceptions.RedisError):
                    raise reply
        return replies

    async def _send(
        self,
        commands: Sequence[Any],
        slots: Sequence[int],
        left: Sequence[int],
        replies: list[Any],
    ) -> None:
        of: dict[Client, list[int]] = {}
        for at in left:
            of.setdefault(await self._cluster._node(slots[at]), []).append(at)  # noqa: SLF001
        sent = (self._send_to(node, [commands[at] for at in some]) for node, some in of.items())
        for some, answers in zip(of.values(), await asyncio.gather(*sent), strict=True):
            for at, answer in zip(some, answers, strict=True):
                replies[at] = answer

    async def _send_to(self, node: Client, commands: Sequence[Any]) -> list[Any]:
        async with node.pipeline(transaction=self.is_transaction) as pipe:
            for args, options in commands:
                pipe.execute_command(*args, **options)
            answers: list[Any] = await self._cluster._watched(  # noqa: SLF001
                pipe.execute(raise_on_error=False)
            )
        return answers


async def primaries(client: Redis) -> list[Redis]:
    """A client for each server that has a part of the store: one, but in a cluster. Raises redis-py's errors."""
    return await client.primaries() if isinstance(client, ClusterClient) else [client]


async def spread(client: Redis, keys: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """How many primaries there are, and which of them have none of some keys. Raises redis-py's errors."""
    if not isinstance(client, ClusterClient):
        return 1, ()
    all_of_them = (await client.known()).primaries
    having = {(await client.known()).owner(slot_of(key)) for key in keys}
    return len(all_of_them), tuple(str(one) for one in all_of_them if one not in having)


async def node_of(client: Redis, key: str) -> Redis:
    """A client for the server that has a key. Raises redis-py's errors."""
    return await client.node_of(key) if isinstance(client, ClusterClient) else client
