"""Leases: what this worker holds, renewed for as long as it works, and taken from it when it must stop.

A renewal is for entries that are still this consumer's; for one that is not, the job was taken over,
and the attempt is interrupted. The renewal also tells when a job has a newer version than the worker
knows: somebody asked to cancel it. Renewing uses a connection of its own, so that no amount of work
can stand in its way.
"""

import asyncio
import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from core import functions
from core.bells import Bell
from core.errors import FromTheFuture, StoreError
from core.keys import LaneName
from core.states import Queued, Running
from core.store import Claim, EventStore
from core.trouble import Trouble

if TYPE_CHECKING:
    from consumers.spans import AttemptSpans

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 3
_RENEW_ITEMS_MAX: Final = 500


class Interruption(StrEnum):
    """Why an attempt must stop before it has an outcome."""

    LOST = "lost"  # The claim is another worker's, or the job has ended: write nothing.
    CANCELLED = "cancelled"  # Confirm the cancel.
    DRAINED = "drained"  # Give the job back.
    NEWER = "newer"  # A newer release has written it: leave it to that release's workers.


class Lease:
    """A job that this worker is running."""

    def __init__(self, job_id: str, job: Running, claim: Claim) -> None:
        self.job_id = job_id
        self.job = job
        self.claim = claim
        self.interruption: Interruption | None = None
        self.spans: AttemptSpans | None = None  # None: nobody traces.
        self._scope: asyncio.Timeout | None = None

    def enter(self, scope: asyncio.Timeout) -> None:
        """Say what to end when the attempt is interrupted; at once if it has been already."""
        self._scope = scope
        if self.interruption is not None:
            scope.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """The attempt has an outcome: too late to interrupt it."""
        self._scope = None

    def interrupt(self, why: Interruption) -> None:
        """End the attempt; what was said first counts, but for LOST, which overrules all."""
        if self.interruption is None or why is Interruption.LOST:
            self.interruption = why
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())


class Leases:
    """All leases of one worker."""

    def __init__(
        self, store: EventStore, client: Redis, consumer: str, lease_seconds: float
    ) -> None:
        self._store = store
        self._client = client
        self._consumer = consumer
        self._lease_seconds = lease_seconds
        # By job and claim number: a job that was lost may be back before its old attempt has closed,
        # and its new lane entry may have the old one's id, as two lanes count for themselves.
        self._held: dict[tuple[str, int], Lease] = {}
        self._newest: dict[str, Lease] = {}
        self._bell: Bell | None = None
        self.rings = 0  # How often somebody has asked to look at the jobs again.
        self._interrupting: Interruption | None = None

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, job_id: str, entry: str) -> bool:
        """Say whether that lane entry is being worked on here."""
        return any(
            lease.job_id == job_id and lease.claim.entry == entry for lease in self._held.values()
        )

    def add(self, lease: Lease) -> None:
        older = self._newest.get(lease.job_id)
        if older is not None:
            older.interrupt(Interruption.LOST)  # Or this claim would not have been given.
        self._newest[lease.job_id] = self._held[lease.job_id, lease.job.claims] = lease
        if self._interrupting is not None:
            lease.interrupt(self._interrupting)

    def remove(self, lease: Lease) -> None:
        del self._held[lease.job_id, lease.job.claims]
        if self._newest.get(lease.job_id) is lease:
            del self._newest[lease.job_id]

    def interrupt_all(self, why: Interruption) -> None:
        """Interrupt what is held, and whatever may still be added."""
        self._interrupting = why
        for lease in self._held.values():
            lease.interrupt(why)

    async def keep(self, bell: Bell) -> None:
        """Renew for ever: three times a lease, and when `bell` says that something has changed."""
        self._bell = bell
        trouble = Trouble(log, "leases are not renewed")
        while True:
            if await bell.wait(self._lease_seconds / RENEWALS_PER_LEASE):
                self.rings += 1
            try:
                await self.renew()
                trouble.is_over()
            except StoreError as error:
                # The lease still stands for a while; the next renewal may come through.
                trouble.is_there(error)
                await asyncio.sleep(min(1.0, self._lease_seconds / 10))
                bell.ring()

    def look_again(self) -> None:
        """Renew soon, and see what has become of the jobs."""
        if self._bell is not None:
            self._bell.ring()

    async def renew(self) -> None:
        """Renew all leases now. Raises StoreUnavailable."""
        for keys in self._store.shards:
            held = [
                lease for lease in self._held.values() if self._store.keys_of(lease.job_id) is keys
            ]
            for start in range(0, len(held), _RENEW_ITEMS_MAX):
                await self._renew(held[start : start + _RENEW_ITEMS_MAX])

    async def _renew(self, leases: list[Lease]) -> None:
        names: list[str] = []
        for lease in leases:
            keys = self._store.keys_of(lease.job_id)
            lane = LaneName(lease.job.lane, lease.job.queue, lease.job.model)
            names += (keys.ready(lane), keys.head(lease.job_id))
        ask = {"consumer": self._consumer, "entries": [lease.claim.entry for lease in leases]}
        replies = await functions.call(self._client, "renew", names, ask)
        changed: list[Lease] = []
        for lease, (is_owned, version) in zip(leases, replies, strict=True):
            if not is_owned:
                lease.interrupt(Interruption.LOST)
            elif version > lease.job.version:
                changed.append(lease)
        await asyncio.gather(*map(self._look_at, changed))

    async def _look_at(self, lease: Lease) -> None:
        try:
            head = await self._store.load(lease.job_id)
        except FromTheFuture:
            lease.interrupt(Interruption.NEWER)
            return
        match head.job if head else None:
            case Running(claims=claims, cancel_by=str()) as job if claims == lease.job.claims:
                lease.job = job
                lease.interrupt(Interruption.CANCELLED)
            case Running(claims=claims) if claims == lease.job.claims:
                pass
            case _:
                lease.interrupt(Interruption.LOST)

    async def release(self, job_id: str, job: Queued | Running, entry: str) -> None:
        """Leave a lane entry to a newer release's workers, if it is still ours. Raises StoreUnavailable."""
        keys = self._store.keys_of(job_id)
        names = [keys.ready(LaneName(job.lane, job.queue, job.model)), keys.head(job_id)]
        ask = {"consumer": self._consumer, "entry": entry}
        await functions.call(self._client, "release", names, ask)
