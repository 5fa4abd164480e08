"""`respool replay incident`: a report of what happened in a stretch of time."""

from pathlib import Path
from typing import Final

import click

from cli.client import ClientError, json_option
from cli.moments import TAKES, Moment
from cli.past import check_order, told
from cli.replay import on_the_store, print_json
from cli.report.markdown import markdown
from cli.report.page import ReportMissing, page
from projections.past.looking import LiesAhead, incident

_HTML: Final = (".html", ".htm")


@click.command("incident")
@click.option("--from", "from_ms", type=Moment(), required=True, help=f"When: {TAKES}.")
@click.option("--to", "to_ms", type=Moment(), default="now", show_default=True)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="A .md or .html file."
)
@json_option
def incident_command(from_ms: int, to_ms: int, output: Path | None, as_json: bool) -> None:
    """Report what happened: what stands out, what changed when, the jobs that lost most; in HTML with plots.

    \b
    Example: respool replay incident --from 14:00 --to 14:30
             respool replay incident --from "1h ago" -o incident.html
    """
    check_order(from_ms, to_ms)
    try:
        report, notes = on_the_store(
            lambda store, tell: incident(store, from_ms, to_ms, told(tell))
        )
        text = markdown(report, notes)
        if as_json:
            print_json({"report": report, "notes": notes})
        elif output is None:
            click.echo(text, nl=False)
        elif output.suffix in _HTML:
            output.write_text(page(report, text), "utf-8")
        else:
            output.write_text(text, "utf-8")
    except (LiesAhead, ReportMissing) as error:
        raise ClientError(str(error)) from error
    except OSError as error:
        raise ClientError(f"{output} cannot be written: {error.strerror}") from error
