"""A queue over HTTP: how full it is, paused, resumed, and names that are none."""

import pytest

from tests.api.conftest import Api
from tests.api.errors import error_of


async def test_a_paused_queue_holds_what_it_takes_until_it_is_resumed(
    api: Api, echo_worker: None, projector: None
) -> None:
    paused = await api.http.post("/v1/queues/slow/pause", json={"reason": "moving the models"})
    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    job_id = await api.submit(queue="slow")
    other = await api.submit(queue="quick")
    assert (await api.job(other, wait=10))["status"] == "completed"
    since = (await api.job(job_id))["position_in_log"]
    shown = (await api.http.get("/v1/queues/slow", params={"min_position": since})).json()
    counts = {name: shown[name] for name in ("paused", "waiting", "scheduled", "running")}
    assert counts == {"paused": True, "waiting": 1, "scheduled": 0, "running": 0}
    resumed = await api.http.post("/v1/queues/slow/resume")
    assert (resumed.status_code, resumed.json()["paused"]) == (200, False)
    assert (await api.job(job_id, wait=10))["status"] == "completed"


async def test_a_queue_may_be_paused_without_a_body(api: Api) -> None:
    assert (await api.http.post("/v1/queues/slow/pause")).json()["paused"]


@pytest.mark.parametrize("way", ["", "/pause", "/resume"])
async def test_a_name_that_no_queue_can_have_is_refused(api: Api, way: str) -> None:
    method = "POST" if way else "GET"
    answer = await api.http.request(method, f"/v1/queues/no%20such{way}")
    assert "takes 1 to 64 letters" in error_of(answer, 422, "invalid_value")["message"]


async def test_a_reason_that_is_no_text_is_refused(api: Api) -> None:
    answer = await api.http.post("/v1/queues/slow/pause", json={"reason": 5})
    assert error_of(answer, 422, "invalid_value")["param"] == "reason"
