"""Servers that append to disk, as backups are restored into."""

from pathlib import Path

from tests.servers import SERVERS, RedisServer


def appending(kind: str, folder: Path, *options: str) -> RedisServer:
    """A server with an append-only file, whose dumps begin at once."""
    folder.mkdir(exist_ok=True)
    at_once = ("--repl-diskless-sync-delay", "0")
    return SERVERS[kind](folder, "--appendonly", "yes", *at_once, *options)
