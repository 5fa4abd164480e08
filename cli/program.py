"""The `respool` program: runs the command line, and leaves without a word if stopped while that loads."""

import os
import signal
import sys
from types import FrameType
from typing import Final

_ROLES: Final = ("api", "projector", "up", "worker")


def main() -> None:
    """Run the command line. A role that is told to stop while its half second of imports goes on has stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] and sys.argv[1] in _ROLES:
        signal.signal(signal.SIGTERM, _leave)
    from cli.main import main as run  # noqa: PLC0415 - only now does Ctrl-C end it without a stack trace.

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(_: int, __: FrameType | None) -> None:
    os._exit(0)
