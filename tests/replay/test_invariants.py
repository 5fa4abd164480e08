"""Whatever several writers did at once, verify finds nothing wrong in the end."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.projections.views import catch_up
from tests.replay.worlds import findings
from tests.servers import RedisServer
from tests.store.test_invariants import Writers


class Verified(Writers):
    """The store's own state machine, held against its log at the end of each run."""

    def teardown(self) -> None:
        self.run(self.check())
        super().teardown()

    async def check(self) -> None:
        assert await findings(self.stores[0]) == []
        await catch_up(self.stores[0])
        assert await findings(self.stores[0]) == []


@pytest.mark.parametrize("shards", [1, 4])
def test_verify_agrees_with_the_audit_whatever_several_writers_did(
    server: RedisServer, shards: int
) -> None:
    machine = type("Verified", (Verified,), {"url": server.url, "shards": shards})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
