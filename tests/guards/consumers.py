"""The guards of the workers."""

from tests.guards.guard import Guard

GUARDS = (
    Guard(
        "cursor of the recovery",
        "consumers/recovery.py",
        "self._cursors[name] = cursor.decode()",
        'self._cursors[name] = "0-0"',
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
        "delivery count of a worker that died before it claimed",
        "consumers/recovery.py",
        "why = LostBecause.NEVER_STARTED if is_alive else LostBecause.LEASE_RAN_OUT",
        "why = LostBecause.NEVER_STARTED",
        "tests/consumers/test_recovery.py",
    ),
    Guard(
        "openai: tool calls that share an index",
        "consumers/upstream/fold.py",
        "return None if is_other else one",
        "return one",
        "tests/upstream/test_fold_whole.py",
    ),
    Guard(
        "openai: fields that nobody knows",
        "consumers/upstream/fold.py",
        "if name not in _OWN and",
        'if name in {"id", "created", "model"} and',
        "tests/upstream/test_fold_whole.py",
    ),
    Guard(
        "tracing: a job that came without a trace has one of its own",
        "consumers/spans.py",
        "OWN_TRACE_ID.set(trace_id_for(job_id))",
        "pass",
        "tests/tracing/test_traces.py",
    ),
    Guard(
        "tracing: a dead worker's attempt is recorded",
        "consumers/recovery.py",
        "if self._spans is not None and owner != HANDED_OVER:",
        "if False:",
        "tests/tracing/test_traces.py",
    ),
    Guard(
        "upstream: a kept connection that was closed is no lost stream",
        "consumers/upstream/http.py",
        "                if not request.is_on_kept_connection:\n",
        "                if True:\n",
        "tests/upstream/test_connections.py",
    ),
    Guard(
        "upstream: what became of the request, not that no other could be sent",
        "consumers/upstream/http.py",
        "raise closed or error from None",
        "raise error from None",
        "tests/upstream/test_connections.py",
    ),
)
