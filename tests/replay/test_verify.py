"""`respool replay verify` finds nothing where nothing is wrong."""

import pytest

from tests.conftest import OpenStore
from tests.given import a_job
from tests.replay.worlds import findings, some_of_everything


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_store_with_something_of_everything_is_as_its_log_says(
    open_store: OpenStore, shards: int
) -> None:
    store = await open_store(shards=shards)
    for seed in range(3):
        await some_of_everything(store, seed=seed)
        assert await findings(store) == []
        await a_job(store)  # Which the views do not have yet.
        assert await findings(store) == []
