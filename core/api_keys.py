"""API keys: what happened to each, and what it may do after that. Pure.

A secret has 256 random bits, so its SHA-256 is all that is kept: nobody finds it by guessing, which a
slow hash is there to hold up, and every request has to compute one.
"""

from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, structs

from core.access import DEFAULT_TENANT, Caller, KeyLimits, Scope
from core.errors import Unreadable

PREFIX: Final = "sk-respool-"  # So that whoever finds one lying about knows what it is.

# A tenant's name stands in keys between colons, and a key's after `key:` in the log.
NAME: Final = "[A-Za-z0-9._-]{1,64}"
Name = Annotated[str, Meta(pattern=rf"^{NAME}$(?!\n)")]
Milliseconds = Annotated[int, Meta(ge=0)]


class _KeyEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Something that happened to a key; when, its entry's id says.

    What a newer release has added is not passed over: it may narrow what the key is good for.
    """

    key: str  # Its id.
    by: str  # Who did it.


class KeyMade(_KeyEvent, frozen=True, kw_only=True, tag="key_made"):
    name: Name  # Never used for another key, so that it says in a log which one it was.
    tenant: Name = DEFAULT_TENANT
    all_tenants: bool = False  # Sees everybody's jobs.
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)]
    limits: KeyLimits = KeyLimits()
    digest: str
    expires_in_ms: Milliseconds | None = None


class KeyRotated(_KeyEvent, frozen=True, kw_only=True, tag="key_rotated"):
    digest: str
    grace_ms: Milliseconds  # For as long the secrets before it go on.


class KeyRevoked(_KeyEvent, frozen=True, kw_only=True, tag="key_revoked"):
    """It is good for nothing from now on."""


KeyEvent = KeyMade | KeyRotated | KeyRevoked
_decoder: msgspec.json.Decoder[KeyEvent] = msgspec.json.Decoder(KeyEvent)


class Secret(Struct, frozen=True):
    """What a client may show for a key."""

    digest: str
    until_ms: int | None = None  # None: as long as the key.


class Change(Struct, frozen=True):
    """What somebody did to a key."""

    at_ms: int
    what: str
    by: str


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key after some of its events; times are milliseconds since 1970 by the store's clock."""

    id: str
    name: str
    tenant: str
    all_tenants: bool
    scopes: tuple[Scope, ...]
    limits: KeyLimits
    secrets: tuple[Secret, ...]  # The newest first.
    made_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    history: tuple[Change, ...]
    is_newer: bool = False  # A newer release wrote something of it that this one cannot read.

    def status(self, now_ms: float) -> str:
        """`live`, or why it is not."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return "expired"
        return "newer" if self.is_newer else "live"

    def is_live(self, now_ms: float) -> bool:
        """Say whether it is good for anything."""
        return self.status(now_ms) == "live"

    @property
    def caller(self) -> Caller:
        """Whoever has it."""
        return Caller(
            tenant=self.tenant,
            sees=None if self.all_tenants else self.tenant,
            scopes=frozenset(self.scopes),
            key=self.id,
            name=self.name,
            limits=self.limits,
        )


def digest_of(secret: str | bytes) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def evolve_key(key: ApiKey | None, event: KeyEvent, at_ms: int) -> ApiKey:
    """The key after one more event. Raises Unreadable for one that cannot follow."""
    change = Change(at_ms, str(event.__struct_config__.tag).removeprefix("key_"), event.by)
    match key, event:
        case None, KeyMade():
            lasts_ms = event.expires_in_ms
            return ApiKey(
                id=event.key,
                name=event.name,
                tenant=event.tenant,
                all_tenants=event.all_tenants,
                scopes=event.scopes,
                limits=event.limits,
                secrets=(Secret(event.digest),),
                made_ms=at_ms,
                expires_ms=None if lasts_ms is None else at_ms + lasts_ms,
                history=(change,),
            )
        case ApiKey(), KeyRotated():
            until_ms = at_ms + event.grace_ms
            older = tuple(
                Secret(one.digest, min(until_ms, one.until_ms or until_ms))
                for one in key.secrets
                if event.grace_ms and (one.until_ms is None or one.until_ms > at_ms)
            )
            secrets = (Secret(event.digest), *older)
            return structs.replace(key, secrets=secrets, history=(*key.history, change))
        case ApiKey(), KeyRevoked():
            revoked_ms = key.revoked_ms or at_ms
            return structs.replace(key, revoked_ms=revoked_ms, history=(*key.history, change))
        case _:
            raise Unreadable(f"{type(event).__name__} cannot happen to the key {event.key}")


class _OfKey(Struct, frozen=True):
    """As much as every release says of an event of a key."""

    key: str


def read_key_event(stored: bytes) -> KeyEvent:
    """Raises Unreadable for what is none, or has something that only a newer release knows."""
    try:
        event: KeyEvent = _decoder.decode(stored)
    except msgspec.DecodeError as error:
        raise Unreadable(f"no event of a key that this release can read: {error}") from error
    return event


def key_of(stored: bytes) -> str | None:
    """The id of the key that an event is of, whatever it says; None if it is none."""
    try:
        return msgspec.json.decode(stored, type=_OfKey).key
    except msgspec.DecodeError:
        return None
