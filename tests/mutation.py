"""Takes out each guard of the store and the workers in turn, and shows that the suite notices.

    python -m tests.mutation            all of them
    python -m tests.mutation renewal    those whose name has the word

Each guard is removed in a copy of the tree, and the tests that are sharpest for it run there. A guard
whose removal no test notices is printed as SURVIVED, and the exit status is 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "cli", "consumers", "core", "migrations", "projections", "tests")
FILES = ("pyproject.toml",)
TEST_SECONDS_MAX = 300


class Guard(NamedTuple):
    """A check, and what the code is without it."""

    name: str
    path: str
    code: str
    without: str
    tests: str


GUARDS = (
    Guard(
        "version check of an append",
        "core/lua/append.lua",
        "if tonumber(at[1] or 0) ~= record.expected then",
        "if false then",
        "tests/store",
    ),
    Guard(
        "operation id of an append that is sent again",
        "core/lua/append.lua",
        "if not first or field_of(first, 'o') ~= record.op then",
        "if true then",
        "tests/store/test_append.py",
    ),
    Guard(
        "entry check at the claim",
        "core/lua/append.lua",
        "if at[2] ~= record.entry or owner_of",
        "if owner_of",
        "tests/store",
    ),
    Guard(
        "owner check at the claim",
        "core/lua/append.lua",
        " or owner_of(lane, record.entry) ~= record.owner then",
        " then",
        "tests/store",
    ),
    Guard(
        "claim check of an outcome",
        "core/job.py",
        "case Running(), Complete(claim) if claim == job.claims:",
        "case Running(), Complete(claim):",
        "tests/core",
    ),
    Guard(
        "claim check of a failure",
        "core/job.py",
        "case Running(), Fail(claim, error, jitter) if claim == job.claims:",
        "case Running(), Fail(claim, error, jitter):",
        "tests/core",
    ),
    Guard(
        "claim check of a loss",
        "core/job.py",
        "case Running(), Lose(claim) if claim == job.claims:",
        "case Running(), Lose(claim):",
        "tests/core",
    ),
    Guard(
        "claim check of an output chunk",
        "core/lua/lease.lua",
        "if tonumber(at[1]) ~= write.claim or ",
        "if ",
        "tests/store/test_output.py",
    ),
    Guard(
        "worker check of an output chunk",
        "core/lua/lease.lua",
        " or at[2] ~= write.worker then",
        " then",
        "tests/store/test_output.py",
    ),
    Guard(
        "claim number check of an outcome that is written",
        "core/lua/append.lua",
        "tonumber(at[4]) ~= claim or ",
        "",
        "tests/store/test_append.py",
    ),
    Guard(
        "worker check of an outcome that is written",
        "core/lua/append.lua",
        " or at[5] ~= worker then",
        " then",
        "tests/store/test_append.py",
    ),
    Guard(
        "owner check of a renewal",
        "core/lua/lease.lua",
        "if owned then",
        "if true then",
        "tests/consumers/test_leases.py",
    ),
    Guard(
        "cursor of the recovery",
        "consumers/recovery.py",
        "self._cursors[name] = cursor.decode()",
        'self._cursors[name] = "0-0"',
        "tests/consumers/test_recovery.py",
    ),
    Guard(
        "pause of the recovery after an outage",
        "core/lua/recover.lua",
        "if math.abs(now - looked) > ask.outage_ms then",
        "if false then",
        "tests/consumers/test_recovery.py",
    ),
    Guard(
        "pause of reporting the lost after an outage",
        "consumers/recovery.py",
        "if self._wait_ms:",
        "if False:",
        "tests/consumers/test_neighbours.py",
    ),
    Guard(
        "pending check of a consumer that is struck off",
        "core/lua/recover.lua",
        "if consumer.pending == 0 and consumer.idle",
        "if consumer.idle",
        "tests/consumers/test_recovery.py",
    ),
    Guard(
        "pending check of a lane that is struck off",
        "core/lua/recover.lua",
        "return info.length == 0 and silent_ms",
        "return silent_ms",
        "tests/consumers/test_recovery.py",
    ),
    Guard(
        "delivery count of a worker that died before it claimed",
        "consumers/recovery.py",
        "why = LostBecause.NEVER_STARTED if is_alive else LostBecause.LEASE_RAN_OUT",
        "why = LostBecause.NEVER_STARTED",
        "tests/consumers/test_recovery.py",
    ),
    Guard(
        "PERSIST at a requeue",
        "core/lua/append.lua",
        "redis.call('PERSIST', head)",
        "local _ = head",
        "tests/store/test_append.py",
    ),
    Guard(
        "passing over of timers that cannot be fired",
        "core/timers.py",
        "self._passed_over[keys.shard] = skip + len(troubles)",
        "self._passed_over[keys.shard] = 0",
        "tests/store/test_timers.py",
    ),
    Guard(
        "score check of a timer that is dropped",
        "core/lua/timers.lua",
        "if redis.call('ZSCORE', keys[1], ask.member) == ask.score then",
        "do",
        "tests/store/test_timers.py",
    ),
    Guard(
        "acknowledgement of what is left over only",
        "core/lua/claim.lua",
        "if at.entry == entry[1] and at.lane == ask.lanes[index].lane then",
        "if at.entry == entry[1] and false then",
        "tests/store",
    ),
    Guard(
        "limit of a queue",
        "core/lua/append.lua",
        "if counted >= record.limit[2] then",
        "if false then",
        "tests/store/test_append.py",
    ),
    Guard(
        "idempotency key",
        "core/lua/append.lua",
        "        if taken then",
        "        if false then",
        "tests/store/test_append.py",
    ),
    Guard(
        "schema check",
        "core/lua/append.lua",
        "if at[3] and tonumber(at[3]) > record.schema then",
        "if false then",
        "tests/store/test_append.py",
    ),
    Guard(
        "memory watermark",
        "core/lua/append.lua",
        "if watermark and memory_percent(now_ms()) >= watermark then",
        "if false then",
        "tests/store/test_append.py",
    ),
    Guard(
        "our own limit for Redis's answers",
        "core/redis.py",
        "socket_timeout=None,",
        "socket_timeout=REPLY_TIMEOUT_SECONDS,",
        "tests/store/test_append.py",
    ),
    Guard(
        "durability of a submission",
        "core/store.py",
        "await self._confirm(job_id, 1, recorded.log_ids[0])",
        "pass",
        "tests/durability/test_replicas.py",
    ),
    Guard(
        "durability of an ending",
        "core/store.py",
        "await self._confirm(job_id, after.version, recorded.log_ids[-1])",
        "pass",
        "tests/durability/test_replicas.py",
    ),
    Guard(
        "durability of a second try under the same key",
        "core/store.py",
        "await self._confirm(duplicate.job_id, 1, None)",
        "pass",
        "tests/durability/test_rounds.py",
    ),
    Guard(
        "durability of what was there before a fail-over",
        "core/durability.py",
        "if not found:",
        "if False:",
        "tests/durability/test_rounds.py",
    ),
    Guard(
        "durability under settings that were changed later",
        "core/durability.py",
        "raise StoreError(wrong)",
        "pass",
        "tests/durability/test_requirements.py",
    ),
    Guard(
        "count check of WAITAOF, of Redis itself",
        "core/durability.py",
        "if synced < 1:",
        "if False:",
        "tests/durability/test_rounds.py",
    ),
    Guard(
        "count check of WAITAOF and WAIT, of the replicas",
        "core/durability.py",
        "if replicas < self._replicas:",
        "if False:",
        "tests/durability/test_replicas.py",
    ),
    Guard(
        "the write that WAITAOF waits for",
        "core/lua/sync.lua",
        "redis.call('SET', keys[1], now_ms())",
        "local _ = now_ms()",
        "tests/durability/test_replicas.py",
    ),
    Guard(
        "trouble: a client leaves a replica",
        "core/redis.py",
        "_A_REPLICA: Final = (exceptions.ReadOnlyError, exceptions.MasterDownError)",
        "_A_REPLICA: Final = (ZeroDivisionError,)",
        "tests/trouble/test_failover.py",
    ),
    Guard(
        "trouble: a pipeline leaves a replica",
        "core/redis.py",
        "return _Pipeline(self.connection_pool",
        "return Pipeline(self.connection_pool",
        "tests/trouble/test_failover.py",
    ),
    Guard(
        "a stream that is not whole",
        "api/openai/stream.py",
        "if is_missing_after(cursor, ended.last):",
        "if False:",
        "tests/api/test_openai.py",
    ),
    Guard(
        "trouble: a look at the log that a replica refuses",
        "core/lua/tail.lua",
        "register('tail', tail, { 'allow-oom' })",
        "register('tail', tail, { 'no-writes' })",
        "tests/trouble/test_failover.py",
    ),
    Guard(
        "trouble: patience of a call that came later",
        "core/batching.py",
        "if one.until > batch[0].until:",
        "if False:",
        "tests/trouble/test_waiting.py",
    ),
    Guard(
        "trouble: a stream over a store without functions",
        "api/errors.py",
        "(StoreUnavailable, StoreNotReady, StoreDenied)",
        "(StoreUnavailable,)",
        "tests/trouble/test_waiting.py",
    ),
    Guard(
        "trouble: a subscription has to be confirmed",
        "core/bells.py",
        """        if message is None:
            raise RedisError("the subscription is not confirmed")
""",
        "",
        "tests/trouble/test_waiting.py",
    ),
    Guard(
        "trouble: the end of the log that was acknowledged",
        "core/tail.py",
        "if written != self._written[at] and newest.position > known.position:",
        "if False:",
        "tests/trouble/test_restarts.py",
    ),
    Guard(
        "trouble: the end of the log that was seen",
        "core/tail.py",
        "self._known[at], self._written[at] = last, written",
        "pass",
        "tests/trouble/test_restarts.py",
    ),
    Guard(
        "trouble: a wrong password is not waited out",
        "cli/roles.py",
        "or isinstance(error, StoreDenied)",
        "or False",
        "tests/trouble/test_replies.py",
    ),
)


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    guards = [guard for guard in GUARDS if word in guard.name]
    with tempfile.TemporaryDirectory(prefix="respool-mutation-") as folder:
        copy = Path(folder)
        _copy_tree(copy)
        survivors = [guard.name for guard in guards if not _is_noticed(guard, copy)]
    print(f"\n{len(guards) - len(survivors)} of {len(guards)} guards are missed when they are gone")
    sys.exit(1 if survivors else 0)


def _copy_tree(copy: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)


def _is_noticed(guard: Guard, copy: Path) -> bool:
    path = copy / guard.path
    whole = path.read_text("utf-8")
    if whole.count(guard.code) != 1:
        sys.exit(f"{guard.name}: {guard.path} does not have this once: {guard.code}")
    path.write_text(whole.replace(guard.code, guard.without), "utf-8")
    started = time.monotonic()
    try:
        is_noticed = not _passes(guard.tests, copy)
    finally:
        path.write_text(whole, "utf-8")
    verdict = "noticed " if is_noticed else "SURVIVED"
    print(f"{verdict}  {time.monotonic() - started:5.1f} s  {guard.name}", flush=True)
    return is_noticed


def _passes(tests: str, copy: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", tests, "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "HYPOTHESIS_PROFILE": "no-shrinking"},
            capture_output=True,
            timeout=TEST_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode > 1:
        sys.exit(f"the tests did not run:\n{done.stdout.decode()[-2_000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    main()
