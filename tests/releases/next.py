"""The next release: this product with what a release may change, for tests that run both on one store.

    python -m tests.releases.next worker

runs a role of it. It has a schema of its own, with a new field in events and heads that older ones do not
write and must not lose, an upcaster for what they wrote, and a function library beside the old one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from core import functions, upcast

ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("api", "cli", "consumers", "core", "migrations", "projections", "tests")

HERE: Final = "here"  # What the next release writes into the new field, `region`,
BEFORE: Final = "before"  # and what it reads where an older one wrote.
SCHEMA: Final = upcast.SCHEMA + 1
LIBRARY: Final = f"respool_{functions.VERSION + 1}"


class Change(NamedTuple):
    """One change to the code."""

    path: str
    code: str
    then: str


CHANGES: Final = (
    Change("core/upcast.py", f"SCHEMA: Final = {upcast.SCHEMA}\n", f"SCHEMA: Final = {SCHEMA}\n"),
    Change(
        "core/upcast.py",
        "_UPCASTERS: Mapping[int, Upcaster] = {}",
        "_UPCASTERS: Mapping[int, Upcaster] = {\n"
        f"    {upcast.SCHEMA}: lambda what, fields: fields | {{'region': '{BEFORE}'}}\n"
        "    if what in {'submitted', 'head'} else fields\n}",
    ),
    Change(
        "core/events.py",
        "    traceparent: str | None = None\n",
        "    traceparent: str | None = None\n    region: str\n",
    ),
    Change("core/states.py", "    tenant: str\n", "    tenant: str\n    region: str\n"),
    Change(
        "core/job.py",
        "        event.tenant,\n",
        "        event.tenant,\n        event.region,\n",
    ),
    Change("core/job.py", "    tenant: str,\n", "    tenant: str,\n    region: str,\n"),
    Change("core/job.py", '"tenant": tenant,', '"tenant": tenant, "region": region,'),
    Change(
        "api/submission.py",
        "tenant=caller.tenant,\n",
        f"tenant=caller.tenant,\n        region='{HERE}',\n",
    ),
    Change(
        "core/functions.py",
        f"VERSION: Final = {functions.VERSION}\n",
        f"VERSION: Final = {functions.VERSION + 1}\n",
    ),
)


def build(folder: Path, changes: Sequence[Change] = CHANGES) -> Path:
    """Make the next release, or another one, in a folder; with it in PYTHONPATH, `respool` is that release."""
    for package in _PACKAGES:
        shutil.copytree(
            ROOT / package,
            folder / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.jsonl"),
        )
    for change in changes:
        path = folder / change.path
        text = path.read_text("utf-8")
        assert text.count(change.code) == 1, f"{change.path} does not have this once: {change.code}"
        path.write_text(text.replace(change.code, change.then), "utf-8")
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="respool-next-") as folder:
        environment = os.environ | {"PYTHONPATH": str(build(Path(folder)))}
        program = [sys.executable, "-c", "from cli.program import main; main()", *sys.argv[1:]]
        sys.exit(subprocess.run(program, cwd=folder, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
