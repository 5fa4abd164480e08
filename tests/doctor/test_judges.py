"""Every box: what passes, what does not and why; and nothing passes that nobody knows."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from cli.doctor.doctor import check
from cli.doctor.facts import Facts, Store, Unknown, Worker
from cli.doctor.verdict import Verdict
from tests.doctor.healthy import GIB, HEALTHY, NOW, UPSTREAM, but

FAIL, WARN, PASS = Verdict.FAIL, Verdict.WARN, Verdict.PASS
OLD = NOW - timedelta(days=100)


def said(facts: Facts, box: str) -> Any:
    [found] = [one.said for one in check(facts) if one.box == box]
    return found


def test_with_evidence_for_all_of_it_every_box_passes() -> None:
    assert {one.box: one.said for one in check(HEALTHY) if one.said.verdict is not PASS} == {}
    assert len(check(HEALTHY)) == 26
    assert all(one.said.evidence for one in check(HEALTHY))


SOURCES = (
    *("redis", "store", "api", "public", "prometheus", "probe"),
    *("upstream", "calibration", "load_test", "drill", "backups"),
)


@pytest.mark.parametrize("fact", SOURCES)
def test_what_is_not_known_never_passes_and_says_what_would_make_it_known(fact: str) -> None:
    facts = structs.replace(HEALTHY, **{fact: Unknown("nobody knows")})
    changed = [one.said for one in check(facts) if one.said.verdict is not PASS]
    assert changed
    for one in changed:
        assert one.verdict is WARN
        assert one.remedy
    assert any(one.evidence.endswith("nobody knows") for one in changed)


CASES = [
    ("concurrency", WARN, but("calibration", at=OLD), "2026-03"),
    ("concurrency", FAIL, but("store", workers=(Worker("big", 4, UPSTREAM),)), "big has 4"),
    (
        "concurrency",
        WARN,
        but("store", workers=(Worker("one", 1, "http://other"),)),
        "no worker on",
    ),
    ("persistence", FAIL, but("redis", appends=False), "appendonly no"),
    ("persistence", FAIL, but("redis", appendfsync="no"), "appendfsync no"),
    ("persistence", FAIL, but("redis", limit_bytes=0), "no maxmemory"),
    ("persistence", WARN, but("redis", appendfsync=None), "not shown"),
    ("health", FAIL, but("api", is_ready=False, ready="no worker"), "no worker"),
    ("health", FAIL, but("prometheus", down=("worker:5345",)), "down: worker:5345"),
    ("health", FAIL, but("store", workers=()), "no worker is alive"),
    ("tls", FAIL, but("public", certificate_until=None), "no TLS"),
    ("tls", FAIL, but("public", tls_trouble="self-signed"), "self-signed"),
    ("tls", FAIL, but("public", certificate_until=NOW + timedelta(days=5)), "5 more days"),
    ("keys", FAIL, but("api", status_without_key=200), "without a key: 200"),
    ("logs", WARN, but("settings", log_format="console"), "LOG_FORMAT=console"),
    ("monitoring", FAIL, but("prometheus", up=()), "no target"),
    ("alerts", FAIL, but("prometheus", alerts={"QueueBuildup": "ok"}), "HighUtilization"),
    (
        "alerts",
        FAIL,
        but("prometheus", alerts={**HEALTHY.prometheus.alerts, "X": "err"}),  # type: ignore[union-attr]
        "cannot evaluate X",
    ),
    ("alerts", FAIL, but("prometheus", alertmanagers=0), "nobody hears"),
    ("load", FAIL, but("load_test", fields={"requests": 9, "failures": 1}), "1 failed"),
    ("load", FAIL, but("load_test", fields={"requests": 0, "failures": 0}), "0 requests"),
    ("load", WARN, but("load_test", at=OLD), "2026-03"),
    ("backup", FAIL, but("backups", newest=()), "none in /backup"),
    ("backup", FAIL, but("backups", newest=(NOW - timedelta(hours=13),) * 2), "13.0 h old"),
    ("backup", WARN, but("backups", newest=(NOW,)), "the only one"),
    ("recovery", FAIL, but("drill", fields={"backup": "a", "differences": [1]}), "not as its log"),
    ("recovery", WARN, but("drill", at=OLD), "2026-03"),
    ("isolation", FAIL, but("probe", connected=True), "connected"),
    ("rate-limit", FAIL, but("public", statuses={200: 60}), "none of 60"),
    ("rate-limit", PASS, but("store", unlimited_keys=0), "each of 2 API keys"),
    ("spread", WARN, but("store", nodes=3, shards=1, idle=("10.0.0.2:6379",)), "10.0.0.2:6379"),
    ("eviction", FAIL, but("redis", policy="allkeys-lru"), "deletes jobs"),
    ("memory", FAIL, but("redis", used_bytes=3.5 * GIB), "new jobs are refused"),
    ("memory", WARN, but("redis", used_bytes=3 * GIB), "75%"),
    ("memory", WARN, but("redis", machine_bytes=4 * GIB), "100% of the machine"),
    ("memory", WARN, but("redis", limit_bytes=0), "no maxmemory"),
    ("versions", FAIL, but("redis", version=(6, 2, 14)), "redis 6.2.14"),
    ("versions", FAIL, but("redis", kind="valkey"), "valkey 7.2.4"),
    ("clock", WARN, but("redis", ahead_seconds=-2.0), "2.000 s apart"),
    ("clock", FAIL, but("redis", ahead_seconds=61.0), "61.000 s apart"),
    ("clock", PASS, but("redis", ahead_seconds=2.0, round_trip_seconds=4.0), "over 4000.0 ms"),
    ("migrations", FAIL, but("store", lacking=("migration 2: views",)), "migration 2"),
    ("worker", FAIL, but("store", workers=()), "no worker"),
    ("views", FAIL, but("store", lag_entries=None), "no view serves"),
    ("views", WARN, but("store", lag_entries=5_000), "5,000 events behind"),
    ("files", WARN, but("machine", files_max=1_024), "1,024 open files"),
    ("files", WARN, but("redis", clients=9_000), "9000 of Redis's"),
    ("upstream", FAIL, but("upstream", parallel=1), "runs 1 at once"),
    ("upstream", WARN, but("upstream", parallel=None, why="it does not say"), "does not say"),
    ("grace", WARN, but("store", slowest_run_seconds=31.0), "31.0 s"),
    ("grace", WARN, but("store", slowest_run_seconds=None), "no run time"),
    (
        "archive",
        WARN,
        but("settings", archive_url=None, redis_url="redis://x"),
        "nothing is trimmed",
    ),
    ("metrics", FAIL, but("public", metrics_status=200), "/metrics: 200"),
]


@pytest.mark.parametrize(
    ("box", "verdict", "facts", "evidence"), CASES, ids=[f"{one[0]}: {one[3]}" for one in CASES]
)
def test_a_box(box: str, verdict: Verdict, facts: Facts, evidence: str) -> None:
    found = said(facts, box)
    assert found.verdict is verdict, found
    assert evidence in found.evidence
    assert (found.remedy == "") == (verdict is PASS)


def test_what_was_asked_and_does_not_answer_is_a_failure() -> None:
    facts = structs.replace(HEALTHY, redis=Unknown("it does not answer", is_down=True))
    assert said(facts, "eviction").verdict is FAIL


def test_every_box_has_a_case_in_which_it_does_not_pass() -> None:
    assert {box for box, verdict, *_ in CASES if verdict is not PASS} == {
        one.box for one in check(HEALTHY)
    }


def test_without_workers_the_upstream_is_held_against_the_setting() -> None:
    facts = structs.replace(
        but("upstream", parallel=3), store=Store(lacking=()), settings=HEALTHY.settings
    )
    assert said(facts, "upstream").verdict is FAIL  # WORKER_CONCURRENCY is 4 by default.
