"""A worker's jobs/s while many more jobs wait behind those that it takes."""

import subprocess
import sys
from pathlib import Path

PEER = Path(__file__).parent / "peers" / "respool_peer.py"
TIMED_JOBS = 60_000


def rate_at_backlog(redis_url: str, depth: int) -> float:
    """Submit `depth` jobs, and time a worker over TIMED_JOBS of them."""
    _run("submit", redis_url, depth)
    return float(_run("work-some", redis_url, TIMED_JOBS))


def _run(what: str, redis_url: str, jobs: int) -> str:
    command = [sys.executable, str(PEER), what, redis_url, str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return done.stdout.strip().splitlines()[-1]
