"""The guide's load test, for locust: the scenario of load_test.js, and the same report.

    RESPOOL_URL=http://localhost:18080 MODEL=gpt-oss:20b locust -f deploy/load/locustfile.py --headless
    LOAD_STAGES=10s:5,30s:10,10s:0 locust -f deploy/load/locustfile.py --headless            a shorter one

OPENAI_API_KEY is sent if it is set. The report goes to LOAD_REPORT (load_report.json), which `respool doctor`
reads; exit status 1 if a request failed. Needs `pip install 'respool[load]'`. See docs/load-testing.md.
"""

import json
import os
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from locust import FastHttpUser, LoadTestShape, constant, events, task
from locust.env import Environment

PATH = "/v1/chat/completions"
URL = os.environ.get("RESPOOL_URL", "http://localhost:18080")
MODEL = os.environ.get("MODEL", "gpt-oss:20b")
REPORT = Path(os.environ.get("LOAD_REPORT", "load_report.json"))
KEY = os.environ.get("OPENAI_API_KEY")
GUIDES_STAGES = "1m:10,5m:50,1m:0"  # Warming up, under load, cooling down.
PATIENCE_SECONDS = 300.0  # As nginx has.
STOP_SECONDS = 30.0  # What is under way at the end may finish, as k6 lets it.


def stages_of(text: str) -> list[tuple[float, int]]:
    """When each stage ends, in seconds since the start, and how many users there are by then.

    Raises ValueError for what is not like `1m:10,90s:50`, as k6's --stage takes it.
    """
    stages, at = [(0.0, 1)], 0.0
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)([sm]):(\d+)", part.strip())
        if found is None:
            raise ValueError(f"LOAD_STAGES takes stages like 1m:10,90s:50,1m:0, not {part!r}")
        at += int(found[1]) * (60 if found[2] == "m" else 1)
        stages.append((at, int(found[3])))
    return stages


STAGES = stages_of(os.environ.get("LOAD_STAGES", GUIDES_STAGES))


class Stages(LoadTestShape):
    """As many users as the stages say, and between two of them in proportion."""

    most = 0  # Users there were at once.

    def tick(self) -> tuple[int, float] | None:
        """How many users there are to be now; locust asks every second. None: it is over."""
        self.most = max(self.most, self.get_current_user_count())  # type: ignore[no-untyped-call]
        now: float = self.get_run_time()  # type: ignore[no-untyped-call]
        for (begin, before), (end, after) in pairwise(STAGES):
            if now < end:
                users = before + (after - before) * (now - begin) / (end - begin)
                return max(1, round(users)), max(1.0, users)
        return None


class Caller(FastHttpUser):
    """Who asks again as soon as there is an answer."""

    host = URL
    wait_time = constant(0)
    network_timeout = PATIENCE_SECONDS
    connection_timeout = PATIENCE_SECONDS

    @task
    def chat(self) -> None:
        """One completion. No answer, or one of 400 and more, is a failure."""
        asked = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": False,
        }
        headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
        self.client.post(PATH, json=asked, headers=headers)


def be_patient(environment: Environment, **_: Any) -> None:
    """Let whoever waits for an answer at the end have it."""
    environment.stop_timeout = STOP_SECONDS


def write_report(environment: Environment, **_: Any) -> None:
    """Say what it came to."""
    total, stages = environment.stats.total, environment.shape_class
    report = {
        "tool": "locust",
        "at": datetime.now(UTC).isoformat(),
        "url": f"{environment.host or URL}{PATH}",
        "model": MODEL,
        "users": stages.most if isinstance(stages, Stages) else 0,
        "seconds": (total.last_request_timestamp or total.start_time) - total.start_time,
        "requests": total.num_requests,
        "failures": total.num_failures,
        "requests_per_second": total.total_rps,
        "median_ms": total.get_response_time_percentile(0.5),
        "p95_ms": total.get_response_time_percentile(0.95),
        "p99_ms": total.get_response_time_percentile(0.99),
    }
    REPORT.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


events.init.add_listener(be_patient)
events.quitting.add_listener(write_report)
