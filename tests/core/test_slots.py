"""Which node has which key."""

import pytest

from core.keys import META, ShardKeys
from core.nodes import seeds_in
from core.slots import SLOTS, Address, _slot_of_tag, key_in, owners_in, slot_of

ASKED = Address("10.0.0.1", 7000)


def test_slots_are_those_of_the_specification() -> None:
    assert _slot_of_tag("123456789") == 0x31C3  # The test vector of Redis Cluster's specification.
    assert slot_of(META) == slot_of(ShardKeys(0).log) == slot_of(b"respool:{0}:job:1") == 13907
    assert all(0 <= slot_of(ShardKeys(shard).log) < SLOTS for shard in range(1024))


def test_four_shards_are_the_fewest_of_which_each_third_of_all_slots_has_one() -> None:
    thirds = [{slot_of(ShardKeys(at).log) * 3 // SLOTS for at in range(n)} for n in (1, 2, 3, 4)]
    assert [len(third) for third in thirds] == [1, 2, 2, 3]


def test_owners_are_read_from_what_a_node_says() -> None:
    owners = owners_in(
        [
            [5000, 9000, [b"10.0.0.2", 7001, b"b"], [b"10.0.0.9", 7009, b"replica"]],
            [0, 4999, [b"", 7000, b"a"]],
            [9002, 16383, [None, 7000, b"a"]],
        ],
        ASKED,
    )
    assert owners.primaries == (ASKED, Address("10.0.0.2", 7001))
    assert [owners.owner(slot) for slot in (0, 4999, 5000, 9000)] == [
        *(ASKED, ASKED),
        *(Address("10.0.0.2", 7001),) * 2,
    ]
    assert owners.owner(9001) is None
    assert owners.owner(16383) == ASKED
    assert owners_in([], ASKED).owner(0) is None


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "respool:{3}:sequence"), "respool:{3}:sequence"),
        (
            ("FCALL", "respool_7_view", 2, b"respool:{3}:log", "respool:{3}:job:1"),
            b"respool:{3}:log",
        ),
        (("XREAD", "COUNT", 1, "STREAMS", "respool:{3}:log", "0-0"), "respool:{3}:log"),
        (("PUBLISH", "respool:bell:work", ""), None),
        (("INFO", "memory"), None),
    ],
)
def test_a_command_goes_by_its_first_key(command: tuple[object, ...], key: object) -> None:
    assert key_in(command) == key


def test_a_url_names_any_of_the_nodes_and_how_to_connect_to_all() -> None:
    seeds = seeds_in("rediss-cluster://me:p%40ss@one:7000,two,[::1]:7002/0?ssl_cert_reqs=none")
    assert seeds.addresses == (Address("one", 7000), Address("two", 6379), Address("::1", 7002))
    assert seeds.url(ASKED) == "rediss://me:p%40ss@10.0.0.1:7000/0?ssl_cert_reqs=none"
    assert seeds.url(seeds.addresses[2]) == "rediss://me:p%40ss@[::1]:7002/0?ssl_cert_reqs=none"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis-cluster://one:7000/1", "a cluster has one, 0"),
        ("redis-cluster://", "names no host"),
        ("redis-cluster://one,,two", "names no host"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        seeds_in(url)
