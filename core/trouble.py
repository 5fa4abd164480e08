"""Trouble that lasts, said in the log when it begins, changes and ends: not at every try."""

import logging


class Trouble:
    """One thing that is tried again and again."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._said: str | None = None

    def is_there(self, why: object) -> None:
        """Say that it went wrong, unless that was the last thing said."""
        text = str(why)
        if text != self._said:
            self._said = text
            self._log.warning("%s: %s", self._what, text)

    def is_over(self) -> None:
        """Say that it went well, if the last thing said was that it did not."""
        if self._said is not None:
            self._said = None
            self._log.warning("%s: no more", self._what)
