"""What an API key is after what happened to it."""

import msgspec
import pytest

from core.access import KeyLimits, Scope
from core.api_keys import (
    ApiKey,
    KeyMade,
    KeyRevoked,
    KeyRotated,
    Secret,
    digest_of,
    evolve_key,
    read_key_event,
)
from core.errors import Unreadable
from core.key_book import new_secret

DAY_MS = 86_400_000


def made(**fields: object) -> ApiKey:
    event = KeyMade(
        **{"key": "key_1", "by": "us", "name": "k", "scopes": (Scope.READ,), "digest": "d1"}
        | fields  # type: ignore[arg-type]
    )
    return evolve_key(None, event, at_ms=1_000)


def rotated(digest: str, grace_ms: int) -> KeyRotated:
    return KeyRotated(key="key_1", by="us", digest=digest, grace_ms=grace_ms)


def test_a_key_is_its_tenants() -> None:
    caller = made(tenant="team").caller
    assert (caller.tenant, caller.sees) == ("team", "team")
    assert caller.scopes == frozenset({Scope.READ})
    assert (caller.key, caller.name) == ("key_1", "k")
    assert made(tenant="team", all_tenants=True).caller.sees is None


def test_a_key_expires_by_the_stores_clock() -> None:
    key = made(expires_in_ms=DAY_MS)
    assert key.is_live(1_000 + DAY_MS - 1)
    assert key.status(1_000 + DAY_MS) == "expired"
    assert made().is_live(1_000 * 366 * DAY_MS)


def test_the_secret_before_a_rotation_goes_on_for_its_grace() -> None:
    key = evolve_key(made(), rotated("d2", grace_ms=500), at_ms=2_000)
    assert key.secrets == (Secret("d2"), Secret("d1", 2_500))


def test_without_a_grace_the_secret_before_is_over() -> None:
    assert evolve_key(made(), rotated("d2", 0), at_ms=2_000).secrets == (Secret("d2"),)


def test_a_second_rotation_lengthens_nobodys_grace_and_drops_who_is_over() -> None:
    once = evolve_key(made(), rotated("d2", grace_ms=500), at_ms=2_000)
    twice = evolve_key(once, rotated("d3", grace_ms=900), at_ms=2_100)
    assert twice.secrets == (Secret("d3"), Secret("d2", 3_000), Secret("d1", 2_500))
    later = evolve_key(once, rotated("d3", grace_ms=900), at_ms=2_500)
    assert later.secrets == (Secret("d3"), Secret("d2", 3_400))


def test_a_revoked_key_stays_so() -> None:
    revoked = evolve_key(made(), KeyRevoked(key="key_1", by="us"), at_ms=2_000)
    assert evolve_key(revoked, rotated("d2", 500), at_ms=3_000).status(3_000) == "revoked"


def test_nothing_happens_to_a_key_that_was_never_made() -> None:
    with pytest.raises(Unreadable):
        evolve_key(None, KeyRevoked(key="key_1", by="us"), at_ms=2_000)
    with pytest.raises(Unreadable):
        evolve_key(made(), read_key_event(stored()), at_ms=2_000)


def stored(**fields: object) -> bytes:
    made = {"type": "key_made", "key": "key_1", "by": "us", "name": "k", "digest": "d1"}
    return msgspec.json.encode(made | {"scopes": ["read"]} | fields)


@pytest.mark.parametrize(
    "newer",
    [
        {"only_from": ["10.0.0.0/8"]},
        {"limits": {"tokens_per_day": 1}},
        {"scopes": ["read", "dream"]},
        {"scopes": []},
        {"tenant": "a:b"},
        {"name": "a b"},
        {"limits": {"streams": 0}},
        {"type": "key_narrowed"},
    ],
)
def test_what_this_release_does_not_know_of_a_key_is_never_passed_over(
    newer: dict[str, object],
) -> None:
    assert isinstance(read_key_event(stored()), KeyMade)
    with pytest.raises(Unreadable):
        read_key_event(stored(**newer))


def test_an_event_is_read_as_it_was_written() -> None:
    event = KeyMade(
        key="key_1",
        by="us",
        name="k",
        tenant="team",
        scopes=(Scope.SUBMIT, Scope.READ),
        limits=KeyLimits(streams=3),
        digest="d1",
        expires_in_ms=5,
    )
    assert read_key_event(msgspec.json.encode(event)) == event


def test_a_secret_has_256_bits_and_says_what_it_is() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("sk-respool-")
        assert len(secret.removeprefix("sk-respool-")) * 6 >= 256
        assert digest_of(secret) == digest_of(secret.encode())
