"""One run: a cluster under load, faults at their times, quiet, and the verdict."""

import asyncio
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from core.records import Bounds
from core.redis import connect
from core.roster import Roster
from core.store import EventStore
from projections.building import log_lengths
from projections.generations import serving
from tests.chaos.cluster import APIS, LEASE_SECONDS, SHARDS, WORKERS, Cluster
from tests.chaos.faults import Fault, Injected, draw, inject
from tests.chaos.front import Front
from tests.chaos.load import Load
from tests.chaos.report import Memory, Report
from tests.chaos.spy import Spy
from tests.chaos.verdict import judge
from tests.projections.views import check_views

CLIENTS: Final = 24
_WARM_UP_SECONDS: Final = 2.0
_WORKED_OFF_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1

Say = Callable[[str], None]


async def run(seed: int, count: int, folder: Path, say: Say) -> Report:
    """Inject `count` faults; the report. The processes' logs are in `folder`, the faults' in faults.log."""
    started = time.monotonic()
    cluster = Cluster(folder)
    client = connect(cluster.server.url)
    try:
        await cluster.start()
        store = EventStore(client, SHARDS, Bounds())
        async with Front(cluster.urls) as front:
            spy, load = Spy(cluster.server.port), Load(front, seed, CLIENTS)
            try:
                await asyncio.sleep(_WARM_UP_SECONDS)
                before = _resident(cluster)
                injected = await _inject_all(cluster, draw(seed, count), folder, say)
                say("no more faults; working off what is left")
                await load.stop()
                wrong = await _worked_off(store, client)
            finally:
                await load.close()
                await spy.close()
        figures, misdeeds = await judge(store, load, spy, injected)
        misdeeds += await _wrong_views(store)
        after, memory = _resident(cluster), await client.info("memory")
        await cluster.stop()
        wrong += [*misdeeds, *front.violations, *cluster.violations, *cluster.tracebacks()]
        return Report(
            seed=seed,
            server=cluster.server_name,
            lease_seconds=LEASE_SECONDS,
            duration_seconds=round(time.monotonic() - started, 1),
            faults=dict(Counter(str(one.fault.kind) for one in injected)),
            figures=figures,
            answers=dict(front.answers),
            memory=[
                Memory(name=name, at_start_bytes=before[name], at_end_bytes=after[name])
                for name in before
            ],
            redis_used_bytes=int(memory["used_memory"]),
            redis_peak_bytes=int(memory["used_memory_peak"]),
            processes=cluster.started,
            violations=wrong,
        )
    finally:
        await client.aclose()
        await cluster.close()


async def _inject_all(
    cluster: Cluster, faults: tuple[Fault, ...], folder: Path, say: Say
) -> list[Injected]:
    """Each fault at its time, whether or not those before it are over."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with (folder / "faults.log").open("w", encoding="utf-8") as log:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number, fault in enumerate(faults, 1):
                await asyncio.sleep(began + fault.at_seconds - loop.time())
                log.write(f"{time.strftime('%H:%M:%S', time.gmtime())}Z {fault}\n")
                log.flush()
                say(f"{number} of {len(faults)}: {fault}")
                tasks.append(group.create_task(inject(cluster, fault)))
    return [task.result() for task in tasks]


async def _worked_off(store: EventStore, client: Any) -> list[str]:
    """Wait until no job is open, and every worker alive or known to have ended; what is not."""
    roster = Roster(store)
    until = time.monotonic() + _WORKED_OFF_SECONDS
    while True:
        counts: Counter[str] = Counter()
        for keys in store.shards:
            for field, number in (await client.hgetall(keys.counts)).items():
                counts[field.decode()] += int(number)
        open_jobs = {field: number for field, number in counts.items() if number}
        silent = [
            member.name
            for member in await roster.members()
            if member.heartbeat is None and not member.worker.has_ended
        ]
        if not open_jobs and not silent:
            return []
        if time.monotonic() > until:
            what = f"jobs {open_jobs}; silent workers that nobody missed: {silent}"
            return [f"not worked off within {_WORKED_OFF_SECONDS:g} s: {what}"]
        await asyncio.sleep(_POLL_SECONDS)


async def _wrong_views(store: EventStore) -> list[str]:
    """Wait until the views have come to the end of the log; nothing, if they are its fold."""
    until = time.monotonic() + _WORKED_OFF_SECONDS
    while True:
        ends = await log_lengths(store)
        at = [await view.checkpoint() for view in (await serving(store)).views(store)]
        if [one.sequence for one in at] == ends:
            break
        if time.monotonic() > until:
            return [
                f"the views are at {at}, and the log at {ends}, {_WORKED_OFF_SECONDS:g} s later"
            ]
        await asyncio.sleep(_POLL_SECONDS)
    try:
        await check_views(store)
    except AssertionError:
        return [f"the views are not the fold of their log:\n{traceback.format_exc()}"]
    return []


def _resident(cluster: Cluster) -> dict[str, int | None]:
    """The memory of the two processes that no fault ends."""
    longest = (cluster.members[WORKERS[0]], cluster.members[APIS[0]])
    return {member.place: _resident_bytes(member.process.pid) for member in longest}


def _resident_bytes(pid: int) -> int | None:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
