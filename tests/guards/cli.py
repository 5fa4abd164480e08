"""The guards of the roles and the command line."""

from tests.guards.guard import Guard

GUARDS = (
    Guard(
        "the address of a client is its proxy's to say",
        "cli/serving.py",
        "forwarded_allow_ips=list(trusted_proxies),",
        'forwarded_allow_ips="*",',
        "tests/cli/test_serving.py",
    ),
    Guard(
        "trouble: a wrong password is not waited out",
        "cli/opening.py",
        "or isinstance(error, StoreDenied)",
        "or False",
        "tests/trouble/test_replies.py",
    ),
    Guard(
        "keys: required, and none there",
        "cli/roles/api.py",
        "    if not book.has_live:",
        "    if False:",
        "tests/cli/test_keys_required.py",
    ),
    Guard(
        "tracing: a collector that hangs holds up no shutdown",
        "cli/telemetry.py",
        "draining.join(DRAIN_SECONDS)",
        "draining.join()",
        "tests/tracing/test_exporting.py",
    ),
    Guard(
        "tracing: trouble with the collector is said now and then",
        "cli/telemetry.py",
        "if now - self._said_at < self._every_seconds:",
        "if False:",
        "tests/cli/test_telemetry.py",
    ),
    Guard(
        "limit of a request's head",
        "cli/protocol.py",
        "room = self.limits.head_bytes_max - self._head_bytes",
        "room = 1 << 30",
        "tests/api/test_wire.py",
    ),
    Guard(
        "limit of a URL",
        "cli/protocol.py",
        "if len(self.url) > limit:",
        "if False:",
        "tests/api/test_wire.py",
    ),
    Guard(
        "time for the rest of a request",
        "cli/protocol.py",
        "if self._has_begun and not self._is_deaf and self._timer is None:",
        "if False:",
        "tests/api/test_wire.py",
    ),
    Guard(
        "trailers are no headers",
        "cli/protocol.py",
        "self.headers = []  # For",
        "pass  # For",
        "tests/api/test_wire.py",
    ),
    Guard(
        "end of a connection whose answer came before its body",
        "cli/protocol.py",
        "elif not self._in_head and self._answering() is None:",
        "elif False:",
        "tests/api/test_wire.py",
    ),
    Guard(
        "no error in the middle of another answer",
        "cli/protocol.py",
        "if self._in_head or answering.response_started or self.pipeline:",
        "if False:",
        "tests/api/test_wire.py",
    ),
    Guard(
        "end of a connection whose client reads nothing",
        "cli/protocol.py",
        "if self.transport.get_write_buffer_size() == self._unread_bytes:",
        "if False:",
        "tests/api/test_wire.py",
    ),
    Guard(
        "journal: what people wrote is logged only where it is asked for",
        "cli/journal.py",
        "        if self._with_content:\n",
        "        if True:\n",
        "tests/metrics/test_journal.py",
    ),
)
