"""One shard held against its log: heads, lane entries and timers, while jobs go on.

The log and what is derived from it change in one step. So whatever is seen together with the log's last
entry has to be what the log says up to exactly there: what differs at first sight is looked at again in
that way, and an honest difference is one that is left then.
"""

import re
from collections import defaultdict

from msgspec import Struct, field

from core.redis import answering
from core.store import EventStore
from projections.archive.filling import filled
from projections.replay.derived import NOTHING, Derived, derived, lane_names
from projections.replay.findings import Finding, Kind
from projections.replay.history import History, Told
from projections.replay.lanes import check_lanes, pending_in, without_entry
from projections.replay.reading import (
    SUBJECTS_PAGE,
    heads,
    lane_entries,
    log_pages,
    look,
    scanned,
)
from projections.replay.subjects import (
    Reference,
    Seen,
    SeenHead,
    differences,
    head_differences,
    stray_entry,
)


class Suspect(Struct):
    """A subject that looked different, and the lane entries that are said to be its."""

    entries: set[tuple[str, str]] = field(default_factory=set)  # The lane's name, the entry.
    members: set[str] = field(default_factory=set)  # Timers of a kind that there is not.


class _Expected(Struct):
    """Lane entries and timers that there should be, as heads and log agree."""

    # By the lane's name, of each entry whose it is, and those that are pending.
    held: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    claimed: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    timers: dict[str, int] = field(default_factory=dict)  # By `SUBJECT:KIND`.

    def add(self, seen: SeenHead, should: Derived) -> None:
        """Expect what belongs to a subject."""
        if should.lane is not None and b"entry" in seen.head:
            entry, lane = seen.fields["entry"], str(should.lane)
            self.held[lane][entry] = seen.subject
            if should.worker is not None:
                self.claimed[lane].add(entry)
        for timer, due_ms in should.timers.items():
            self.timers[f"{seen.subject}:{timer}"] = due_ms


class Shard:
    """One shard's log, folded as far as was needed, and what was found to differ."""

    def __init__(self, store: EventStore, shard: int, history: History, told: Told) -> None:
        self.store = store
        self.keys = store.shards[shard]
        self.history = history
        self.findings: list[Finding] = []
        self.suspects: dict[str, Suspect] = {}
        self.concerned: set[str] = (
            set()
        )  # Jobs with events that the log has not: their heads count.
        self.subjects = 0
        self._pending: list[tuple[str, str]] = []
        self._told = told

    async def fold(self, until: str = "+") -> None:
        """Read the log on, up to an entry. Raises FromTheFuture, ArchiveError, StoreUnavailable."""
        history = self.history
        if until != "+" and history.has_come_to(until):
            return
        shard = self.keys.shard
        pages = log_pages(self.store, shard, history.entry, until)
        async for raws in filled(self.store, shard, pages, history.sequence, until):
            history.add(raws)
            self._told("events", history.entries, history.entries)

    def should(self, subject: str) -> Derived:
        """What the log says of a subject, as far as it was read."""
        row = self.history.rows.get(subject)
        return NOTHING if row is None else derived(row, self.history.log_ids[subject])

    async def check_subjects(self) -> None:
        """Look at the heads, lane entries and timers of all subjects. Raises StoreUnavailable."""
        self.suspects = defaultdict(Suspect)
        expected = await self._look_at_all()
        await self._look_through_lanes(expected)
        await self._look_through_timers(expected)
        await self._look_again()
        missed = {(one.name, one.expected) for one in self.findings if one.kind is Kind.ENTRY}
        self.findings += [
            stray_entry("pending", lane, entry, self.keys.shard)
            for lane, entry in self._pending
            if (lane, entry) not in missed
        ]

    async def _look_at_all(self) -> _Expected:
        """Every head once; what there should be of those that are as they should be."""
        subjects = list(self.history.rows)
        expected = _Expected()
        self.subjects = done = 0
        async for page in heads(self.store, self.keys, subjects):
            at = self.reference(page.now_ms)
            for seen in page.seen:
                should = self.should(seen.subject)
                if head_differences(seen, should, at):
                    self.suspects[seen.subject]
                else:
                    expected.add(seen, should)
            done += len(page.seen)
            self._told("heads", done, len(subjects))
        self.subjects = done
        self.suspects |= {subject: Suspect() for subject in self.history.unreadable}
        return expected

    async def _look_through_lanes(self, expected: _Expected) -> None:
        names = await self.lane_names()
        for name in names:
            there: dict[str, str] = {}
            async for page in lane_entries(self.store, self.keys, name):
                there.update(page)
            pending = await pending_in(self.store, self.keys, name)
            held, claimed = expected.held[name], expected.claimed[name]
            for entry, subject in there.items() - held.items():
                self.suspects[subject].entries.add((name, entry))
            for _, subject in held.items() - there.items():
                self.suspects[subject]
            for entry in claimed - pending:
                self.suspects[held[entry]]
            gone = await without_entry(self.store, self.keys, name, pending - there.keys())
            self._pending += [(name, entry) for entry in gone]
        self.findings += await check_lanes(self.store, self.keys, names)

    async def lane_names(self) -> list[str]:
        """The lanes that there are, or may be. Raises StoreUnavailable."""
        async with answering():
            listed = await self.store.client.execute_command("SMEMBERS", self.keys.lanes)
        return sorted({name.decode() for name in listed} | lane_names(self.history.rows.values()))

    async def _look_through_timers(self, expected: _Expected) -> None:
        there: dict[str, int] = {}
        async for page in scanned(self.store, b"ZSCAN", self.keys.timers):
            there.update((member, int(float(due_ms))) for member, due_ms in page)
        for member, _ in there.items() - expected.timers.items():
            subject, _, timer = member.partition(":")
            self.suspects[subject]
            if timer not in ("due", "deadline"):
                self.suspects[subject].members.add(member)
        for member, _ in expected.timers.items() - there.items():
            self.suspects[member.partition(":")[0]]

    async def _look_again(self) -> None:
        """Look at the suspects together with the end of the log."""
        suspects = list(self.suspects.items())
        for first in range(0, len(suspects), SUBJECTS_PAGE):
            page = suspects[first : first + SUBJECTS_PAGE]
            entries = [entry for _, suspect in page for entry in sorted(suspect.entries)]
            seen_now = await look(self.store, self.keys, [name for name, _ in page], entries)
            await self.fold(seen_now.last)
            holders = dict(zip(entries, seen_now.holders, strict=True))
            for (_, suspect), seen in zip(page, seen_now.subjects, strict=True):
                self._judge(seen, suspect, holders, self.reference(seen_now.now_ms))
            self._told("suspects", first + len(page), len(suspects))

    def _judge(
        self,
        seen: Seen,
        suspect: Suspect,
        holders: dict[tuple[str, str], str | None],
        at: Reference,
    ) -> None:
        found = differences(seen, self.should(seen.subject), at)
        if self._is_of_a_gap(seen):
            self.concerned.add(seen.subject)
            found = []
        if not any(one.kind in (Kind.HEAD, Kind.ENTRY) for one in found):
            fields = seen.fields
            lane = "{lane}:{queue}:{model}".format_map(defaultdict(str, fields))
            own = (lane, fields.get("entry"))
            for place in sorted(suspect.entries - {own}):
                if holders[place] == seen.subject:
                    found.append(stray_entry(seen.subject, *place, at.shard))
        for member in sorted(suspect.members):
            found.append(
                Finding(
                    kind=Kind.TIMER,
                    shard=at.shard,
                    subject=seen.subject,
                    name=member.partition(":")[2],
                    stored="set",
                    expected=None,
                )
            )
        self.findings += found

    def _is_of_a_gap(self, seen: Seen) -> bool:
        """Say whether the log lacks an event of this job, so that its head alone tells what it is."""
        subject, history = seen.subject, self.history
        if subject in history.unreadable:
            return True
        known = set(history.log_ids.get(subject, ()))
        for version, log_id in _versions(seen):
            missing = None if log_id in known else history.gap_with(log_id)
            if missing is not None:
                self.findings.append(
                    Finding(
                        kind=Kind.LOG,
                        shard=self.keys.shard,
                        subject=f"history of {subject}",
                        name=f"version {version}",
                        stored=None,
                        expected=f"entry {log_id}",
                        is_accepted=history.gaps.have(missing),
                    )
                )
                return True
        return False

    def reference(self, now_ms: int) -> Reference:
        return Reference(self.keys.shard, now_ms, self.store.bounds.retention_ms)


def _versions(seen: Seen) -> list[tuple[str, str]]:
    """The versions that a head has, and their log entries; what is no entry's id is left out."""
    return [
        (name, value)
        for name, value in seen.fields.items()
        if name.isdigit() and _ENTRY_ID.fullmatch(value)
    ]


_ENTRY_ID = re.compile(r"\d{1,19}-\d{1,19}")
