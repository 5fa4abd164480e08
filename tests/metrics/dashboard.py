"""Grafana's dashboard, as it is provisioned."""

import json
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[2] / "deploy"


def panels() -> list[dict[str, Any]]:
    text = (DEPLOY / "grafana" / "dashboards" / "respool.json").read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text)["panels"]
    return found


def queries() -> dict[str, list[str]]:
    """What each panel asks."""
    return {one["title"]: [target["expr"] for target in one["targets"]] for one in panels()}
