"""What the documents name is there: tests, files, headings, commands with their options, targets, services."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from cli.main import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md")))
# What is made where it runs, and stands in no repository.
MADE_ELSEWHERE = ("certs/", "benchmarks/.venvs", "deploy/load/load_report")
OF_THE_REPOSITORY = (
    *("api/", "benchmarks/", "cli/", "consumers/", "core/", "deploy/", "docs/", "migrations/"),
    *("projections/", "requirements/", "tests/", "compose."),
)
OF_CLICK = {"--help"}


class Named(NamedTuple):
    """Something that a document names, and where."""

    document: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.what}"


@cache
def lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text("utf-8").splitlines())


def found(pattern: str) -> Iterator[Named]:
    """What matches in any document: its first group."""
    for path in DOCUMENTS:
        for number, line in enumerate(lines(path), 1):
            for one in re.finditer(pattern, line):
                yield Named(str(path.relative_to(ROOT)), number, one[1])


def missing(named: Iterator[Named] | list[Named], is_there: object) -> list[str]:
    """Those that are not there; there has to be one at least, or nothing was looked at."""
    some = list(named)
    assert some, "no document names any"
    return [str(one) for one in some if not is_there(one.what)]  # type: ignore[operator]


@cache
def functions_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_every_test_that_is_named_is_there() -> None:
    def is_there(what: str) -> bool:
        file, _, name = what.partition("::")
        return (ROOT / file).is_file() and name in functions_in(ROOT / file)

    assert missing(found(r"`(tests/[\w/]+\.py::\w+)`"), is_there) == []


def test_every_file_that_is_named_is_there() -> None:
    def is_there(what: str) -> bool:
        return what.startswith(MADE_ELSEWHERE) or any(ROOT.glob(what.rstrip("/")))

    paths = [
        one
        for one in found(r"`([\w.*-]+(?:/[\w.*-]*)*)`")
        if one.what.startswith(OF_THE_REPOSITORY) and "/" in one.what + "/"
    ]
    assert missing(paths, is_there) == []


@cache
def anchors_of(path: Path) -> frozenset[str]:
    """The headings of a document, as GitHub names them."""
    headings = [line.lstrip("#").strip() for line in lines(path) if re.match(r"#+ ", line)]
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return frozenset(heading.replace(" ", "-") for heading in plain)


def test_every_link_leads_to_a_file_and_a_heading_of_it() -> None:
    wrong = []
    for one in found(r"\]\(((?!https?:)[^)\s]+)\)"):
        file, _, anchor = one.what.partition("#")
        target = (ROOT / one.document).parent / file if file else ROOT / one.document
        if not target.exists() or (anchor and anchor not in anchors_of(target.resolve())):
            wrong.append(str(one))
    assert wrong == []


def called() -> Iterator[Named]:
    """Every call of `respool` that stands in a document: the words after it, on the same line."""
    yield from found(r"(?:^|[`(\s])respool ((?:[a-z]+|--?[a-z])[^`#|\n]*)")


def wrong_in(words: list[str]) -> str | None:
    """What a call names that there is not; None if all is there."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        word = words.pop(0).strip(",.;:)\"'")
        next_command = command.get_command(context, word)
        if next_command is None:
            return word
        command = next_command
    options = {text for one in command.params if isinstance(one, click.Option) for text in one.opts}
    named = [word.partition("=")[0].strip(",.;:)\"'") for word in words if word.startswith("--")]
    return next((one for one in named if one not in options | OF_CLICK), None)


def test_every_command_that_is_shown_is_one_with_those_options() -> None:
    calls = [one for one in called() if not one.what.startswith(("is ", "and ", "does ", "user "))]
    assert len(calls) > 50
    assert [f"{one} ({wrong})" for one in calls if (wrong := wrong_in(one.what.split()))] == []


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert missing(found(r"`make ([a-z]+)[^`]*`"), targets.__contains__) == []


def test_every_module_that_is_run_is_there() -> None:
    def is_there(what: str) -> bool:
        path = ROOT / what.replace(".", "/")
        return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()

    assert missing(found(r"python -m ((?:benchmarks|tests|cli)[\w.]*\w)"), is_there) == []


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    headings = re.findall(
        r"^## (\w+)", (ROOT / "docs" / "runbooks.md").read_text("utf-8"), re.MULTILINE
    )
    assert {one for one in headings if one[0].isupper()} == alerts


def test_every_service_and_profile_that_is_named_is_one_of_compose() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    profiles = {name for service in services.values() for name in service.get("profiles", ())}
    assert missing(found(r"docker compose[^`\n]*--profile (\w+)"), profiles.__contains__) == []
    run = found(
        r"docker compose[^`\n]*? (?:exec|run --rm|logs --follow|stop) (?:--[\w-]+ )*([\w-]+)"
    )
    assert missing(run, services.__contains__) == []


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("replay timeline JOB", None),
        ("replay nonsense", "nonsense"),
        ("forget --tenant team-a --dry-run", None),
        ("forget --tennant team-a", "--tennant"),
        ("nothing", "nothing"),
    ],
)
def test_a_call_that_is_none_is_noticed(call: str, wrong: str | None) -> None:
    assert wrong_in(call.split()) == wrong
