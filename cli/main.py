"""The `respool` command: one subcommand for each role, and a client over HTTP."""

import logging
import sys
from typing import Final

import click

from cli.lazy import LazyGroup
from core.errors import Mendable

log = logging.getLogger(__name__)

_PLACES: Final = {
    "up": "cli.up:up",
    "api": "cli.roles.api:api",
    "worker": "cli.roles.worker:worker",
    "projector": "cli.roles.projector:projector",
    "migrate": "cli.migrate:migrate",
    "keys": "cli.keys:keys",
    "backup": "cli.backup.backup:backup",
    "restore": "cli.backup.restore:restore",
    "calibrate": "cli.calibrate.calibrate:calibrate",
    "doctor": "cli.doctor.doctor:doctor",
    "replay": "cli.replay:replay",
    "forget": "cli.forget:forget_command",
    "submit": "cli.jobs:submit",
    "show": "cli.jobs:show",
    "watch": "cli.watch:watch",
    "events": "cli.firehose:events",
    "cancel": "cli.bulk:cancel",
    "requeue": "cli.bulk:requeue",
    "pause": "cli.queues:pause",
    "resume": "cli.queues:resume",
    "jobs": "cli.lists:jobs",
    "queues": "cli.lists:queues",
    "workers": "cli.lists:workers",
    "usage": "cli.lists:usage",
}


@click.group(
    cls=LazyGroup,
    places=_PLACES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="respool")
def cli() -> None:
    """Durable job execution for self-hosted LLM inference.

    Roles: up (all of it on one machine), api, worker, projector, migrate; they read their settings from the
    environment. `keys`, `replay`, `forget`, `backup` and `restore` work on the store itself, `calibrate` on the inference server. The other commands are a client of the HTTP
    API, and send it OPENAI_API_KEY, if that is set, as their key.
    """


def main() -> None:
    """Run the command line; what a user can mend is one message on standard error and exit status 1."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Mendable as error:
        click.echo(f"respool: {error}", err=True)
        sys.exit(1)
    except Exception:
        log.exception("this should not have happened; please report it")
        sys.exit(70)  # EX_SOFTWARE of sysexits.h.
