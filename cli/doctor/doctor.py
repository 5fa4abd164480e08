"""`respool doctor`: the production checklist, checked."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from rich.text import Text

from cli.calibrate.written import CALIBRATION
from cli.client import DEFAULT_URL, json_option
from cli.doctor import outside
from cli.doctor.checklist import GUIDE
from cli.doctor.facts import Facts
from cli.doctor.files import kept, machine, report
from cli.doctor.inside import redis_and_store
from cli.doctor.more import MORE
from cli.doctor.verdict import Said, Verdict
from cli.process import settings_of_environment
from cli.replay import print_json
from cli.tables import console, new_table

_COLOURS: Final = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


class Checked(Struct, frozen=True):
    """A box, and what was said of it."""

    box: str
    title: str
    said: Said


@click.command()
@click.option("--api-url", envvar="RESPOOL_URL", default=DEFAULT_URL, show_default=True)
@click.option("--public-url", envvar="PUBLIC_URL", help="What clients outside are given: https://…")
@click.option("--prometheus-url", envvar="PROMETHEUS_URL")
@click.option(
    "--probe-redis", envvar="PROBE_REDIS", help="HOST:PORT that must not be reachable from here."
)
@click.option("--load-report", envvar="LOAD_REPORT", type=click.Path(path_type=Path))
@click.option("--restore-report", envvar="RESTORE_REPORT", type=click.Path(path_type=Path))
@json_option
def doctor(
    api_url: str,
    public_url: str | None,
    prometheus_url: str | None,
    probe_redis: str | None,
    load_report: Path | None,
    restore_report: Path | None,
    as_json: bool,
) -> None:
    """Go through the production checklist: what passes, on what evidence, and what to do about the rest.

    Without evidence nothing passes: it is a warning that says what would make it known. Run it with the settings
    of the services, and once from a machine outside. --public-url is sent 60 requests at once. Exit status 1 if anything fails.

    \b
    Example: REDIS_URL=redis://store:6379/0 PUBLIC_URL=https://api.example.com respool doctor
    """
    settings = settings_of_environment(LOG_LEVEL="error")

    async def gather() -> Facts:
        (redis, store), api, public, prometheus, probe, upstream = await asyncio.gather(
            redis_and_store(settings),
            outside.asked(api_url, "RESPOOL_URL", outside.api),
            outside.asked(public_url, "PUBLIC_URL", outside.public),
            outside.asked(prometheus_url, "PROMETHEUS_URL", outside.prometheus),
            outside.asked(probe_redis, "PROBE_REDIS", outside.probe),
            outside.asked(settings.upstream_url, "UPSTREAM_URL", outside.upstream),
        )
        return Facts(
            settings=settings,
            now=datetime.now(UTC),
            redis=redis,
            store=store,
            api=api,
            public=public,
            prometheus=prometheus,
            probe=probe,
            upstream=upstream,
            calibration=report(
                settings.respool_data_dir / CALIBRATION,
                "RESPOOL_DATA_DIR",
                {"recommended": int, "upstream": str},
            ),
            load_test=report(load_report, "LOAD_REPORT", {"requests": int, "failures": int}),
            drill=report(restore_report, "RESTORE_REPORT", {"backup": str, "differences": list}),
            machine=machine(),
            backups=kept(settings),
        )

    checked = check(asyncio.run(gather()))
    if as_json:
        print_json(_as_json(checked))
    else:
        _print(checked)
    sys.exit(1 if any(one.said.verdict is Verdict.FAIL for one in checked) else 0)


def check(facts: Facts) -> list[Checked]:
    """Every box, the guide's first."""
    return [Checked(box.name, box.title, box.judge(facts)) for box in (*GUIDE, *MORE)]


def _print(checked: Sequence[Checked]) -> None:
    table = new_table("", "box", "evidence", "remedy")
    for one in checked:
        said = one.said
        verdict = Text(said.verdict, style=_COLOURS[said.verdict])
        table.add_row(verdict, Text(one.title), Text(said.evidence), Text(said.remedy))
    console().print(table)
    count = {verdict: sum(one.said.verdict is verdict for one in checked) for verdict in Verdict}
    click.echo(", ".join(f"{many} {verdict}" for verdict, many in count.items()))


def _as_json(checked: Sequence[Checked]) -> dict[str, object]:
    boxes = [
        {
            "box": one.box,
            "title": one.title,
            "verdict": one.said.verdict,
            "evidence": one.said.evidence,
            "remedy": one.said.remedy,
        }
        for one in checked
    ]
    return {"at": datetime.now(UTC).isoformat(), "boxes": boxes}
