"""What Respool costs as a gateway, beside LiteLLM's proxy, a bare reverse proxy, and nothing at all.

    python -m benchmarks.gateway                   about four minutes
    python -m benchmarks.gateway --only tokens     one part: chat, jobs or tokens
    python -m benchmarks.gateway --json FILE       all samples too

All stand in front of the same inference server, which answers at once, on this one machine, and take
turns. Respool is an API process, a worker process and a Redis with its log on disk, synced once a second:
each request is a job and writes three events. A contestant shares the cores with the load and with the
inference server; `CPU` says what its own processes took for a request. Needs wrk (Debian: apt install wrk).
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contestants import (
    CHAT,
    Contestant,
    Missing,
    bare,
    litellm,
    nginx,
    respool,
    upstream,
)
from benchmarks.fixed import MODEL, PACED
from benchmarks.load import first_token_ms, has_wrk, load, warm_up
from benchmarks.server import BenchmarkRedis

CONNECTIONS = 64
SECONDS = 4
STREAMS = 150
_MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Who are you, and what can you do for me today?"},
]
ASKED = json.dumps({"model": MODEL, "messages": _MESSAGES, "stream": False})
STREAMED = json.dumps({"model": PACED, "messages": _MESSAGES, "stream": True})
# A queue that the worker leaves alone: the measure is of taking jobs, not of running them too.
SUBMITTED = json.dumps({"model": MODEL, "queue": "later", "request": {"messages": _MESSAGES}})

Samples = dict[str, dict[str, list[float]]]  # By contestant, then by what was measured.


def main() -> None:
    parts = {"chat": chat, "jobs": jobs, "tokens": tokens}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="one part instead of all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--json", type=Path, help="a file for all samples")
    arguments = parser.parse_args()
    if not has_wrk():
        raise SystemExit(
            "the load comes from wrk, which is not installed (Debian: apt install wrk)"
        )
    everything: dict[str, Samples] = {}
    with ExitStack() as stack:
        redis = stack.enter_context(BenchmarkRedis(appendonly=True))
        print(f"{platform.machine()}, {os.cpu_count()} cores, {redis.version}", flush=True)
        contestants = _contestants(stack, redis)
        for name, part in parts.items():
            if arguments.only in {None, name}:
                print(f"\n## {name}\n", flush=True)
                everything[name] = part(contestants, redis, arguments.rounds)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(everything, indent=1))


def _contestants(stack: ExitStack, redis: BenchmarkRedis) -> dict[str, Contestant]:
    """All that can be had, each in front of the same server; what cannot is said."""
    direct = stack.enter_context(upstream())
    found = [direct, stack.enter_context(respool(direct.url, redis)), stack.enter_context(bare())]
    for other in (nginx, litellm):
        try:
            found.append(stack.enter_context(other(direct.url)))
        except Missing as missing:
            print(f"left out: {missing}", flush=True)
    return {one.name: one for one in found}


def chat(contestants: dict[str, Contestant], redis: BenchmarkRedis, rounds: int) -> Samples:
    """Chat completions that are not streamed: alone, and 64 at a time."""
    names = [name for name in ("direct", "nginx", "respool", "litellm") if name in contestants]
    for name in names:
        warm_up(contestants[name].url + CHAT, ASKED)
    samples: Samples = {}
    for _ in range(rounds):
        for name in names:
            measured = under_load(contestants[name], CHAT, ASKED, redis)
            _add(samples, name, measured)
    _print_table(samples, "median ms, 1 connection", f"requests/s, {CONNECTIONS}", "median ms, 64")
    _print_cpu(samples)
    print(f"\nevents in the log for a request: {_median(samples, 'respool', 'events'):.2f}")
    if "litellm" in samples:
        alone = _ratio(samples, "litellm", "respool", "median ms, 1 connection")
        many = _ratio(samples, "respool", "litellm", f"requests/s, {CONNECTIONS}")
        print(f"LiteLLM's median latency at 1 connection, in Respool's: {alone:.2f} (wanted: 2)")
        print(f"Respool's requests/s at {CONNECTIONS}, in LiteLLM's: {many:.2f} (wanted: 5)")
    return samples


def jobs(contestants: dict[str, Contestant], redis: BenchmarkRedis, rounds: int) -> Samples:
    """Jobs taken, and a bare handler that decodes the same."""
    samples: Samples = {}
    for _ in range(rounds):
        for name in ("bare handler", "respool"):
            _add(samples, name, under_load(contestants[name], "/v1/jobs", SUBMITTED, redis))
    _print_table(samples, "median ms, 1 connection", f"requests/s, {CONNECTIONS}", "median ms, 64")
    _print_cpu(samples)
    share = _ratio(samples, "respool", "bare handler", f"requests/s, {CONNECTIONS}")
    print(f"\nPOST /v1/jobs in a bare handler's requests/s: {share:.2f} (wanted: 0.3)")
    return samples


def tokens(contestants: dict[str, Contestant], _: BenchmarkRedis, rounds: int) -> Samples:
    """From a request to the first token of its stream, one stream at a time."""
    names = [name for name in ("direct", "nginx", "respool", "litellm") if name in contestants]
    taken: dict[str, list[float]] = {name: [] for name in names}
    samples: Samples = {}
    for _round in range(rounds):
        for name in names:
            url = contestants[name].url + CHAT
            first_token_ms(url, STREAMED, STREAMS // 5)  # To warm up.
            times = sorted(first_token_ms(url, STREAMED, STREAMS))
            taken[name] += times
            p99 = times[int(0.99 * len(times))]
            _add(samples, name, {"median ms": statistics.median(times), "p99 ms": p99})
    _print_table(samples, "median ms", "p99 ms")
    over = _median(samples, "respool", "median ms") - _median(samples, "direct", "median ms")
    over_p99 = _median(samples, "respool", "p99 ms") - _median(samples, "direct", "p99 ms")
    print(f"\nRespool over the direct call: {over:.2f} ms (wanted: 5), at p99 {over_p99:.2f} ms")
    return samples


def under_load(
    contestant: Contestant, path: str, body: str, redis: BenchmarkRedis
) -> dict[str, float]:
    """One round of one contestant."""
    url = contestant.url + path
    alone = load(url, body, 1, SECONDS)
    busy, entries = contestant.busy_seconds(), redis.log_entries()
    many = load(url, body, CONNECTIONS, SECONDS)
    written = redis.log_entries() - entries
    return {
        "median ms, 1 connection": alone.median_ms,
        f"requests/s, {CONNECTIONS}": many.per_second,
        f"median ms, {CONNECTIONS}": many.median_ms,
        f"p99 ms, {CONNECTIONS}": many.p99_ms,
        "events": written / many.requests,
        **{
            f"CPU of {name}": (seconds - busy[name]) * 1_000 / many.requests
            for name, seconds in contestant.busy_seconds().items()
        },
    }


def _add(samples: Samples, name: str, measured: dict[str, float]) -> None:
    for what, value in measured.items():
        samples.setdefault(name, {}).setdefault(what, []).append(value)


def _median(samples: Samples, name: str, what: str) -> float:
    return statistics.median(samples[name][what])


def _ratio(samples: Samples, above: str, below: str, what: str) -> float:
    return _median(samples, above, what) / _median(samples, below, what)


def _print_table(samples: Samples, *columns: str) -> None:
    """Medians of the rounds, with the least and the most."""
    print("| |", " | ".join(columns), "|\n|---|" + "---|" * len(columns))
    for name, measured in samples.items():
        cells = (_cell(measured[column]) for column in columns)
        print(f"| {name} |", " | ".join(cells), "|")


def _cell(values: Sequence[float]) -> str:
    shown: Callable[[float], str] = "{:,.0f}".format if min(values) >= 100 else "{:.2f}".format
    return f"{shown(statistics.median(values))} ({shown(min(values))} to {shown(max(values))})"


def _print_cpu(samples: Samples) -> None:
    print(f"\nCPU, in ms for a request at {CONNECTIONS} connections:")
    for name, measured in samples.items():
        shares = {what: values for what, values in measured.items() if what.startswith("CPU of ")}
        parts = (f"{what[7:]} {statistics.median(values):.2f}" for what, values in shares.items())
        print(f"  {name}: {', '.join(parts)}")


if __name__ == "__main__":
    main()
