"""What WORKER_CONCURRENCY=auto comes to.

What was measured, if it was of this inference server; else the least of the guide's table for the GPUs that are here;
else one at a time. It does not measure when a worker starts: that takes minutes, in which a restarted worker would
run no jobs, and what it came to would depend on what others send the server just then.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from cli.calibrate.question import CalibrationError
from cli.calibrate.written import CALIBRATION, read_report
from core.calibration import Recommendation
from core.events import Gpu
from core.gpu_table import row_of


class Applied(Struct, frozen=True):
    """How many jobs at once, and why."""

    concurrency: int
    why: str
    is_measured: bool = False


def applied(data_dir: Path, upstream: str, gpus: Sequence[Gpu]) -> Applied:
    """What `auto` is for a worker of this inference server on a machine with these GPUs."""
    try:
        report = read_report(data_dir)
    except CalibrationError as error:
        return _guessed(gpus, str(error))
    if report is None:
        return _guessed(gpus, f"{data_dir / CALIBRATION} is not there")
    if report.upstream != upstream:
        return _guessed(gpus, f"what was measured was {report.upstream}, not {upstream}")
    return _measured(report)


def _measured(report: Recommendation) -> Applied:
    why = f"measured on {report.at:%Y-%m-%d} with {report.model}"
    return Applied(report.recommended, why, is_measured=True)


def _guessed(gpus: Sequence[Gpu], why: str) -> Applied:
    row = row_of(gpus)
    if row is None:
        return Applied(1, f"{why}; one at a time is what never is too much")
    table = (
        f"for {row.gpu} with models of {row.models} the guide's table has {row.least} to {row.most}"
    )
    return Applied(row.least, f"{why}; {table}")
