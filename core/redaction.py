"""Taking out of a job's events what a person wrote, or what may quote it, while the transitions stay. Pure.

A prompt is personal data, an audit trail is not. What goes: `request` and `result`, `metadata`, the
`reason` that somebody gave, and the message of an error, as inference servers quote what they refuse. What
stays says who did what to which job, and when: tenant, queue, model, API key, kinds of errors, tokens, times.

It works on events as they are stored, whichever release wrote them: a field, once released, keeps its name.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw, structs

from core.events import JobError

GONE: Final = b"null"  # In place of a body; every body that there was is an object.
REDACTED: Final = "redacted"  # In place of a message.

_FACT: Final = b"redacted"
_BODIES: Final = ("request", "result")
_DROPPED: Final = ("metadata", "reason")


def is_gone(body: Raw) -> bool:
    """Say whether a request or a result was taken out."""
    return bytes(body) == GONE


def redacted_error(error: JobError) -> JobError:
    """An error with its kind alone."""
    return structs.replace(error, message=REDACTED)


def redacted(tag: bytes, data: bytes) -> bytes:
    """An event of a job as it is stored, without what a person wrote; the same object if there is nothing of that.

    Raises msgspec.DecodeError for what is no event.
    """
    if tag == _FACT:  # Why it was forgotten is for the audit.
        return data
    fields: dict[str, Raw] = msgspec.json.decode(data, type=dict[str, Raw])
    left = {name: _without(name, value) for name, value in fields.items() if name not in _DROPPED}
    if len(left) == len(fields) and all(left[name] is fields[name] for name in left):
        return data
    return msgspec.json.encode(left)


def _without(name: str, value: Raw) -> Raw:
    if name in _BODIES and not is_gone(value):
        return Raw(GONE)
    if name == "error":
        error: dict[str, Any] = msgspec.json.decode(value)
        if error.get("message") != REDACTED:
            return Raw(msgspec.json.encode(error | {"message": REDACTED}))
    return value
