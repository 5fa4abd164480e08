"""What whoever waits for it is told meanwhile."""

from collections.abc import Callable

Told = Callable[
    [str, int], None
]  # What is being read or written anew, and how many entries of it are done.
