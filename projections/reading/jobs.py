"""Lists of jobs, newest first, by any of their common marks and by time."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from heapq import merge
from itertools import islice
from typing import Any

from msgspec import Struct, structs

from core.keys import LaneName
from projections.jobs import TIME_DIGITS, member_of
from projections.names import escaped
from projections.reading.position import Position, Reader
from projections.rows import JobRow, decode


class Filter(Struct, frozen=True, kw_only=True):
    """Which jobs; an absent mark means any."""

    statuses: tuple[str, ...] = ()
    queue: str | None = None
    tenant: str | None = None
    model: str | None = None
    created_from_ms: int | None = None
    created_before_ms: int | None = None

    @property
    def is_any(self) -> bool:
        return self == Filter()

    def narrowed_to(self, statuses: tuple[str, ...]) -> "Filter":
        """The same, but for these statuses alone."""
        return structs.replace(self, statuses=statuses)


class Page(Struct, frozen=True):
    """Some jobs, newest first, and where the next page begins; None after the last."""

    jobs: tuple[JobRow, ...]
    cursor: str | None
    position: Position


async def list_jobs(reader: Reader, which: Filter, limit: int, cursor: str | None = None) -> Page:
    """The newest jobs that match, or those after a cursor.

    Raises ValueError for what is no cursor, StoreNotReady, StoreUnavailable.
    """
    ask = _ask(which, limit, None if cursor is None else read_cursor(cursor))
    position, replies = await reader.ask(
        "views_list",
        lambda view: [view.keys.names, view.keys.rows],
        lambda view: ask | {"prefix": view.keys.prefix},
    )
    lists = [zip(members, rows, strict=True) for members, rows in replies]
    found = list(islice(merge(*lists, reverse=True), limit))
    rows = [decode(row) for _, row in found if row]
    jobs = tuple(row for row in rows if isinstance(row, JobRow))
    next_cursor = make_cursor(found[-1][0].decode()) if len(found) == limit else None
    return Page(jobs, next_cursor, position)


def _ask(which: Filter, limit: int, after: str | None) -> dict[str, Any]:
    wanted: dict[str, Any] = {"queue": which.queue, "model": which.model}
    if which.statuses:
        wanted["status"] = dict.fromkeys(which.statuses, True)
    if which.tenant is not None:
        wanted["tenant"] = escaped(which.tenant)
    before = "+"
    if which.created_before_ms is not None:
        before = f"({member_of(which.created_before_ms, '')}"
    if after is not None and (before == "+" or after < before[1:]):
        before = f"({after}"
    since = which.created_from_ms
    return {
        "wanted": {name: value for name, value in wanted.items() if value is not None},
        "before": before,
        "from": "-" if since is None else f"[{member_of(since, '')}",
        "limit": limit,
        "digits": TIME_DIGITS,
    }


def make_cursor(member: str) -> str:
    """A cursor that goes on after a member."""
    return urlsafe_b64encode(member.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """The reverse of `make_cursor`. Raises ValueError."""
    try:
        member = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError as error:
        raise ValueError("takes a cursor as a list gave it") from error
    if not member[:TIME_DIGITS].isdigit() or len(member) <= TIME_DIGITS:
        raise ValueError("takes a cursor as a list gave it")
    return member


def lane_of(line: str) -> LaneName:
    """Which lane a line is of."""
    return LaneName.parse(line.partition(":")[2])


def flat(pairs: list[bytes]) -> Mapping[str, bytes]:
    """A hash as a function replies it."""
    return {name.decode(): value for name, value in zip(pairs[::2], pairs[1::2], strict=True)}
