"""`respool up`, as the tests of the command line start it."""

from tests.cli.conftest import start_up

__all__ = ["start_up"]
