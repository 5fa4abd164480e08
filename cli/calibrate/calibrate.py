"""`respool calibrate`: the deployment guide's section 1, done by itself."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from cli.calibrate.others import at_work, noted
from cli.calibrate.question import TOKENS, CalibrationError, model_of, question_of
from cli.calibrate.rising import measured
from cli.calibrate.shown import print_calibration
from cli.calibrate.written import set_in_env_file, write_report
from cli.client import json_option
from cli.loop import run
from cli.process import settings_of_environment
from cli.replay import print_json
from cli.tables import console
from consumers.gpu import gpu_memory, gpus
from consumers.upstream.base import Limits, Upstream, UpstreamError
from consumers.upstream.connect import connect
from core.calibration import Calibration, Level, knee, levels_up_to, recommended
from core.errors import StoreError
from core.roster import GpuMemory
from core.settings import Settings, SettingsError


class Plan(Struct, frozen=True, kw_only=True):
    """What is measured, and how long."""

    model: str | None
    request: Path | None
    max_tokens: int
    seconds: float
    most: int
    beside_jobs: bool


@click.command()
@click.option("--model", help="Needed if the server has several.")
@click.option(
    "--request",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A request such as yours, as JSON with `messages` or `prompt`: what it takes depends on its length.",
)
@click.option("--max-tokens", type=click.IntRange(1), default=TOKENS, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600),
    default=10.0,
    show_default=True,
    help="For each level, at least.",
)
@click.option(
    "--most",
    type=click.IntRange(1, 1_000),
    default=32,
    show_default=True,
    help="Not more requests at once than this.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Set WORKER_CONCURRENCY there, too.",
)
@click.option("--beside-jobs", is_flag=True, help="Even if workers run jobs there.")
@click.option("--dry-run", is_flag=True, help="Measure, and write nothing.")
@json_option
def calibrate(env_file: Path | None, dry_run: bool, as_json: bool, **plan: object) -> None:
    """Measure how many jobs at once the inference server at UPSTREAM_URL is good for, and write it down.

    The load rises from one request: what the GPU's memory holds with a reserve of 30 %, and where more requests bring
    little more tokens. Run it where the GPU is, with a worker's settings and no jobs. The report goes into
    RESPOOL_DATA_DIR, where WORKER_CONCURRENCY=auto and `respool doctor` find it.

    \b
    Example: UPSTREAM_URL=http://localhost:11434 respool calibrate --model llama3.2 --env-file .env
    """
    settings = settings_of_environment(LOG_LEVEL="error")
    found = run(_calibration(settings, msgspec.convert(plan, Plan)))
    if as_json:
        print_json(found)
    else:
        print_calibration(console(), found)
    if dry_run:
        return
    written = [str(write_report(settings.respool_data_dir, found))]
    if env_file is not None:
        set_in_env_file(env_file, found.recommended)
        written.append(str(env_file))
    click.echo(f"written to {' and '.join(written)}", err=True)


async def _calibration(settings: Settings, plan: Plan) -> Calibration:
    """Raises CalibrationError, SettingsError."""
    upstream = await _connected(settings)
    try:
        model = await model_of(upstream, plan.model)
        question = question_of(model, plan.request, plan.max_tokens)
        names = {one.index: one.name for one in await asyncio.to_thread(gpus)}
        if not plan.beside_jobs:
            await _refuse_beside_jobs(settings, upstream.address)
        with _progress(upstream.address, plan) as tell:
            seen = await measured(upstream, question, names, look, plan.seconds, plan.most, tell)
        return Calibration(
            at=datetime.now(UTC),
            upstream=upstream.address,
            model=model,
            recommended=recommended(seen.levels, seen.memory),
            knee=knee(seen.levels),
            memory=seen.memory,
            devices=seen.devices,
            levels=seen.levels,
            notes=(*seen.notes, *await noted(settings, upstream.address)),
        )
    finally:
        await upstream.aclose()


async def look() -> tuple[GpuMemory, ...]:
    """How full the GPUs here are."""
    return await asyncio.to_thread(gpu_memory)


async def _connected(settings: Settings) -> Upstream:
    url = settings.upstream_url
    if url is None:
        raise SettingsError(
            "`respool calibrate` needs UPSTREAM_URL, such as http://localhost:11434"
        )
    try:
        return await connect(url, settings.upstream_kind, settings.upstream_api_key, Limits())
    except ValueError as error:
        raise SettingsError(f"UPSTREAM_URL={url!r}: {error}") from error
    except UpstreamError as error:
        raise CalibrationError(f"UPSTREAM_URL: {error}") from error


async def _refuse_beside_jobs(settings: Settings, address: str) -> None:
    """Raises CalibrationError if jobs run there now: what they leave would be taken for all there is."""
    try:
        working = await at_work(settings, address)
    except StoreError:
        return  # It will be noted.
    if working:
        raise CalibrationError(
            f"{', '.join(working)} on {address}: pause their queues first (respool pause QUEUE), "
            "or measure all the same with --beside-jobs"
        )


@contextmanager
def _progress(address: str, plan: Plan) -> Iterator[Callable[[Level], None]]:
    """A bar over the levels that there may be, where somebody watches."""
    shown = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(f"{address}: 1 at once", total=len(levels_up_to(plan.most)))

        def tell(level: Level) -> None:
            said = f"{level.concurrency} at once: {level.tokens_per_second:,.0f} tokens/s"
            bar.update(task, advance=1, description=said)

        yield tell
