"""Old stored shapes are read as today's, one step a schema."""

from typing import Any

import pytest

from core import upcast
from core.errors import FromTheFuture


def test_what_an_older_release_wrote_passes_through_every_step_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def renamed(what: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"lane": fields["band"]} if what == "head" else fields

    def with_default(what: str, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"what": what}

    monkeypatch.setattr(upcast, "SCHEMA", 3)
    monkeypatch.setattr(upcast, "_UPCASTERS", {1: renamed, 2: with_default})
    assert upcast.upcast("head", {"band": "front"}, 1) == {"lane": "front", "what": "head"}
    assert upcast.upcast("claimed", {"lane": "low"}, 2) == {"lane": "low", "what": "claimed"}
    assert upcast.upcast("claimed", {"lane": "low"}, 3) == {"lane": "low"}
    with pytest.raises(FromTheFuture, match="upgrade"):
        upcast.upcast("claimed", {}, 4)
