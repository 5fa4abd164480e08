"""Who asks, what they may do, and how much of it. Pure."""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

DEFAULT_TENANT: Final = "default"
Limit = Annotated[int, Meta(ge=1)]


class Scope(StrEnum):
    """What a caller may do."""

    SUBMIT = "submit"  # Jobs, and cancel or requeue its own.
    READ = "read"  # Jobs, lists and streams.
    OPERATE = "operate"  # Queues, and jobs by the hundred.


class KeyLimits(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much a key may ask for; None: as much as the queues take."""

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    jobs_in_flight: Limit | None = None  # That have not ended.
    streams: Limit | None = None  # Open at once, in one API process.


class Caller(Struct, frozen=True, kw_only=True):
    """Whoever sent a request."""

    tenant: str  # Whose jobs it submits.
    sees: str | None  # The tenant whose jobs it sees; None: everybody's.
    scopes: frozenset[Scope]
    key: str | None = None  # The id of its API key; None: it has none, and none was asked for.
    name: str = "anybody"  # Of its key, for the log.
    limits: KeyLimits = KeyLimits()

    def may_see(self, tenant: str) -> bool:
        """Say whether a tenant's jobs are there, as far as this caller can know."""
        return self.sees is None or self.sees == tenant


ANYBODY: Final = Caller(tenant=DEFAULT_TENANT, sees=None, scopes=frozenset(Scope))
