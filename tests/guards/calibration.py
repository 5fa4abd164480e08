"""The guards of calibration, and of what is read of GPUs."""

from tests.guards.guard import Guard

GUARDS = (
    Guard(
        "calibration: the reserve of 30 %",
        "core/calibration.py",
        "return total_bytes * (100 - RESERVE_PERCENT) // 100",
        "return total_bytes",
        "tests/calibrate/test_arithmetic.py",
    ),
    Guard(
        "calibration: what is in use at rest is not free",
        "core/calibration.py",
        "(usable_bytes(total_bytes) - base_bytes) // per_request_bytes",
        "usable_bytes(total_bytes) // per_request_bytes",
        "tests/calibrate/test_arithmetic.py",
    ),
    Guard(
        "calibration: never below 1",
        "core/calibration.py",
        "return max(1, usable_bytes(total_bytes) // per_request_bytes)",
        "return usable_bytes(total_bytes) // per_request_bytes",
        "tests/calibrate/test_arithmetic.py",
    ),
    Guard(
        "calibration: growth within noise is none",
        "core/calibration.py",
        "        > NOISE_BYTES\n",
        "        > 0\n",
        "tests/calibrate/test_arithmetic.py",
    ),
    Guard(
        "calibration: no more is sent than fits",
        "core/calibration.py",
        "limit = most if fit is None else min(most, fit.beside_base)",
        "limit = most",
        "tests/calibrate/test_measuring.py",
    ),
    Guard(
        "calibration: memory that comes back is waited for",
        "cli/calibrate/memory.py",
        "(len(looks) == looks.maxlen and _is_still(looks))",
        "len(looks) == looks.maxlen",
        "tests/calibrate/test_measuring.py",
    ),
    Guard(
        "calibration: memory that rises is waited for",
        "cli/calibrate/load.py",
        "                await peak.until_steady()\n",
        "",
        "tests/calibrate/test_measuring.py",
    ),
    Guard(
        "calibration: an answer for every client is waited for",
        "cli/calibrate/load.py",
        "                await heard.is_everybody_answered.wait()\n",
        "",
        "tests/calibrate/test_measuring.py",
    ),
    Guard(
        "calibration: no prefix cache answers",
        "cli/calibrate/question.py",
        "_TASK.format(number=number)",
        "_TASK",
        "tests/calibrate/test_measuring.py",
    ),
    Guard(
        "calibration: not beside running jobs",
        "cli/calibrate/calibrate.py",
        "    if working:\n",
        "    if False:\n",
        "tests/calibrate/test_calibrate.py",
    ),
    Guard(
        "calibration: auto is of this inference server",
        "cli/calibrate/applied.py",
        "if report.upstream != upstream:",
        "if False:",
        "tests/calibrate/test_written.py",
    ),
    Guard(
        "calibration: an .env file keeps its rights",
        "cli/calibrate/written.py",
        "            shutil.copymode(path, unfinished)\n",
        "            pass\n",
        "tests/calibrate/test_written.py",
    ),
    Guard(
        "gpus: instances of a GPU that is cut up are the devices",
        "consumers/gpu.py",
        "        if _is_cut_up(handle):\n",
        "        if False:\n",
        "tests/gpus/test_gpus.py",
    ),
    Guard(
        "gpus: figures of a driver that hangs are none",
        "consumers/gpu.py",
        "return () if is_late else memory",
        "return memory",
        "tests/gpus/test_gpus.py",
    ),
)
