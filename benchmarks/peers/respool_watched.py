"""The same engine as in respool_peer.py, with and without metrics and lines, in one process and in turns.

`respool_watched.py REDIS_URL JOBS` reads a LOG_LEVEL from each line (or nothing, for neither metrics nor
lines), has JOBS jobs submitted and worked on in an empty Redis, and answers with one line of JSON.
"""

import json
import sys
import time
from collections.abc import Awaitable

from respool_peer import submit_jobs, work_jobs
from stopwatch import Timed

from cli.loop import run
from core.settings import LogLevel


async def answer(redis_url: str, jobs: int) -> None:
    for line in sys.stdin:
        level = LogLevel(line.strip()) if line.strip() else None
        submit_cpu, submitted = await _measured(submit_jobs(redis_url, jobs, level))
        work_cpu, worked = await _measured(work_jobs(redis_url, jobs, level))
        measured = {
            "CPU of a submission, µs": submit_cpu / jobs * 1e6,
            "CPU of a job in its worker, µs": work_cpu / jobs * 1e6,
            "submits/s": submitted.jobs / submitted.seconds,
            "jobs/s": worked.jobs / worked.seconds,
        }
        print(json.dumps(measured), flush=True)


async def _measured(work: Awaitable[Timed]) -> tuple[float, Timed]:
    """The CPU seconds that it took, what is written a moment later included."""
    began = time.process_time()
    timed = await work
    return time.process_time() - began, timed


if __name__ == "__main__":
    run(answer(sys.argv[1], int(sys.argv[2])))
