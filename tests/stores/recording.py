"""Stores as text: a running one recorded as the commands that make it again, and made again from them.

A line is one command, as a JSON array of its words, so that a recording reads well in a diff and loads
on Redis 7.0 and on Valkey alike, which a dump does not. Expiry is kept as the time that was left, and
what is pending as how long it had been so: a store that is loaded is as old as it was.
"""

from typing import Any, Final

import msgspec
from redis.asyncio import Redis

Command = list[str]

_SCANNED_PER_CALL: Final = 1_000
_PENDING_MAX: Final = 10_000


async def recorded(client: Redis) -> list[Command]:
    """The commands that make the store at `client` again. Nobody may write to it meanwhile."""
    commands: list[Command] = []
    for library in await client.execute_command("FUNCTION", "LIST", "WITHCODE"):
        code = _fields(library)["library_code"]
        commands.append(["FUNCTION", "LOAD", "REPLACE", _text(code)])
    for key in sorted([_text(key) async for key in client.scan_iter(count=_SCANNED_PER_CALL)]):
        commands += await _key(client, key)
        left_ms = int(await client.pttl(key))
        if left_ms > 0:
            commands.append(["PEXPIRE", key, str(left_ms)])
    return commands


async def load(client: Redis, recording: bytes) -> None:
    """Make a recorded store again, in an empty Redis."""
    for line in recording.splitlines():
        await client.execute_command(*msgspec.json.decode(line, type=Command))


def written(commands: list[Command]) -> bytes:
    """A recording as it stands in its file."""
    return b"".join(msgspec.json.encode(command) + b"\n" for command in commands)


async def _key(client: Any, key: str) -> list[Command]:
    match _text(await client.type(key)):
        case "string":
            return [["SET", key, _text(await client.get(key))]]
        case "hash":
            fields = sorted((await client.hgetall(key)).items())
            return [["HSET", key, *(_text(word) for pair in fields for word in pair)]]
        case "set":
            return [["SADD", key, *sorted(map(_text, await client.smembers(key)))]]
        case "zset":
            members = await client.zrange(key, 0, -1, withscores=True)
            return [
                [
                    "ZADD",
                    key,
                    *(word for m, score in members for word in (f"{score:.0f}", _text(m))),
                ]
            ]
        case "stream":
            return await _stream(client, key)
        case other:
            raise ValueError(f"{key} is a {other}, which no recording has yet")


async def _stream(client: Any, key: str) -> list[Command]:
    commands: list[Command] = []
    for entry_id, fields in await client.xrange(key):
        words = [_text(word) for pair in fields.items() for word in pair]
        commands.append(["XADD", key, _text(entry_id), *words])
    for group in await client.xinfo_groups(key):
        name, last = _text(group["name"]), _text(group["last-delivered-id"])
        commands.append(["XGROUP", "CREATE", key, name, last, "MKSTREAM"])
        consumers = [_text(row["name"]) for row in await client.xinfo_consumers(key, name)]
        commands += [["XGROUP", "CREATECONSUMER", key, name, one] for one in consumers]
        for row in await client.xpending_range(key, name, "-", "+", _PENDING_MAX):
            idle, count = str(row["time_since_delivered"]), str(row["times_delivered"])
            claim = ["XCLAIM", key, name, _text(row["consumer"]), "0", _text(row["message_id"])]
            commands.append([*claim, "IDLE", idle, "RETRYCOUNT", count, "FORCE"])
    last = _text((await client.xinfo_stream(key))["last-generated-id"])
    return [*commands, ["XSETID", key, last]]


def _fields(row: Any) -> dict[str, Any]:
    """A row of FUNCTION LIST, which is flat in the protocol that we speak."""
    if isinstance(row, dict):
        return {_text(name): value for name, value in row.items()}
    return {_text(name): value for name, value in zip(row[::2], row[1::2], strict=True)}


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word
