"""This suite runs on every server that the product supports."""

from tests.store.conftest import server

__all__ = ["server"]
