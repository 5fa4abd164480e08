"""A Redis Cluster of three primaries on the loopback, each a process that can be stopped and started again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from core.slots import SLOTS, slot_of
from tests.servers import SERVERS, RedisServer, free_port

PRIMARIES = 3
_AGREE_SECONDS = 30.0
# The third of all slots that each has, as redis-cli lays them out.
RANGES = [(at * SLOTS // PRIMARIES, (at + 1) * SLOTS // PRIMARIES - 1) for at in range(PRIMARIES)]


class Cluster:
    """Three servers that know each other."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._buses = [free_port() for _ in range(PRIMARIES)]
        self.nodes = [_node(kind, folder / str(at), bus) for at, bus in enumerate(self._buses)]

    @property
    def url(self) -> str:
        return "redis-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start them, give each its slots, and wait until all agree on that."""
        for node in self.nodes:
            node.start()
        for number, (node, (first, last)) in enumerate(zip(self.nodes, RANGES, strict=True), 1):
            self.tell(node, "CLUSTER", "SET-CONFIG-EPOCH", number)
            self.tell(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            met = ("127.0.0.1", self.nodes[0].port, self._buses[0])
            self.tell(node, "CLUSTER", "MEET", *met)
        self.until_agreed()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def until_agreed(self) -> None:
        """Wait until every node says that all is well, and that all three have what they have."""
        _until(lambda: all(self._is_well(node) for node in self.nodes))

    def tell(self, node: RedisServer, *command: str | int | bytes) -> Any:
        """A command to one node, and its answer as it came."""
        with redis.Redis(port=node.port, socket_timeout=5) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def having(self, key: str) -> RedisServer:
        """The node that has a key."""
        slot = slot_of(key)
        for first, last, (_, port, *_), *_ in self._slots(self.nodes[0]):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def move(
        self, key: str, to: RedisServer, *, between: Callable[[], None] = lambda: None
    ) -> None:
        """Move a key's slot to another node, key by key, as redis-cli does; `between` once half of it is there."""
        slot, source = slot_of(key), self.having(key)
        ours, theirs = self._id(source), self._id(to)
        self.tell(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ours)
        self.tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
        has_begun = False
        while keys := self.tell(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
            self.tell(source, "MIGRATE", "127.0.0.1", to.port, keys[0], 0, 5_000)
            if not has_begun:
                has_begun = True
                between()
        for node in (to, source, *self.nodes):
            self.tell(node, "CLUSTER", "SETSLOT", slot, "NODE", theirs)

    def _id(self, node: RedisServer) -> str:
        return str(self.tell(node, "CLUSTER", "MYID").decode())

    def _is_well(self, node: RedisServer) -> bool:
        is_ok = b"cluster_state:ok" in self.tell(node, "CLUSTER", "INFO")
        return is_ok and {port for _, _, (_, port, *_), *_ in self._slots(node)} == {
            node.port for node in self.nodes
        }

    def _slots(self, node: RedisServer) -> list[Any]:
        slots: list[Any] = self.tell(node, "CLUSTER", "SLOTS")
        return slots


def _node(kind: str, folder: Path, bus: int) -> RedisServer:
    folder.mkdir()
    options = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus),
        "cluster-node-timeout": "2000",
        "appendonly": "yes",
        "appendfsync": "always",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return SERVERS[kind](folder, *words)


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _AGREE_SECONDS
    while not holds():
        assert time.monotonic() < until, "the nodes do not agree"
        time.sleep(0.02)
