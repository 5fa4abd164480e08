"""Faults against real processes under load, and the log read afterwards.

    python -m tests.chaos --faults 500 --seed 7 --json chaos.json

The same seed injects the same faults at the same offsets. Exit status 1 if anything was lost, ended
twice or left over; the processes' logs are kept then.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.report import show, summary
from tests.chaos.run import run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--faults", type=int, default=15, help="how many (default: 15)")
    parser.add_argument("--seed", type=int, help="of the faults and the load (default: a new one)")
    parser.add_argument("--json", type=Path, help="write the report there, too")
    parser.add_argument("--keep", action="store_true", help="keep the logs in any case")
    asked = parser.parse_args()
    if asked.faults < 1:
        parser.error(f"--faults {asked.faults}: takes a number from 1 on")
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="respool-chaos-"))
    console.print(f"seed {seed}; logs in {folder}", highlight=False)

    def say(what: str) -> None:
        console.print(what, markup=False, highlight=False, soft_wrap=True)

    report = asyncio.run(run(seed, asked.faults, folder, say))
    show(report, console)
    if asked.json is not None:
        asked.json.write_text(json.dumps(summary(report), indent=2) + "\n", encoding="utf-8")
    if report.violations or asked.keep:
        console.print(f"again: --seed {seed} --faults {asked.faults}; logs in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
