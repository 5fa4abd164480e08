"""Takes out each guard in turn, and shows that the suite notices.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tests.guards import GUARDS
from tests.guards.guard import Guard

ROOT = Path(__file__).parent.parent
FOLDERS = (
    "api",
    "cli",
    "consumers",
    "core",
    "deploy",
    "docs",
    "migrations",
    "projections",
    "tests",
)
FILES = ("pyproject.toml", "Dockerfile", ".env.example", "compose*.yaml")
TEST_SECONDS_MAX = 300
AT_ONCE = 2  # Most of them wait for processes.


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    named = [guard for guard in GUARDS if word in guard.name]
    guards = [guard for guard in named if not guard.program or shutil.which(guard.program)]
    for guard in named:
        if guard not in guards:
            print(f"left out, as there is no {guard.program}: {guard.name}")
    with tempfile.TemporaryDirectory(prefix="respool-mutation-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(AT_ONCE):
            copies.put(copy := Path(folder) / f"gw{number}")
            _copy_tree(copy)

        def is_missed(guard: Guard) -> bool:
            copy = copies.get()
            try:
                return _is_noticed(guard, copy)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            noticed = list(pool.map(is_missed, guards))
    survivors = [guard for guard, is_so in zip(guards, noticed, strict=True) if not is_so]
    print(f"\n{len(guards) - len(survivors)} of {len(guards)} guards are missed when they are gone")
    sys.exit(1 if survivors else 0)


def _copy_tree(copy: Path) -> None:
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in FILES:
        for path in ROOT.glob(pattern):
            shutil.copy(path, copy / path.name)


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
            env=os.environ
            | {"PYTHONPATH": str(copy), "HYPOTHESIS_PROFILE": "no-shrinking"}
            | {"PYTEST_XDIST_WORKER": copy.name}  # For ports of its own.
            | {"PYTHONDONTWRITEBYTECODE": "1"},  # A file compiled with a guard is none without it.
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
