"""A generation of views is the fold of the log, whenever and by whomever it was folded."""

from core.commands import Claim
from core.store import EventStore
from projections.building import build
from projections.generations import serving
from projections.rows import JobRow
from tests.given import a_job


async def test_jobs_are_in_the_views_once_they_are_built(store: EventStore) -> None:
    job = await a_job(store)
    other = await a_job(store, queue="batch", delay_ms=60_000)
    await store.execute(job, Claim("w1"))
    await build(store)
    view = (await serving(store)).view(store, 0)
    rows = await view.rows([job, other])
    shown = {id_: row.job for id_, row in rows.items() if isinstance(row, JobRow)}
    assert shown == {id_: (await store.require(id_)).job for id_ in (job, other)}
