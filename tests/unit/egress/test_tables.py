"""From nft's JSON and the engine's journal to tries. The listings are of nft 1.0.6 on a lab node."""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.adapters.host.egress import EgressTables, table_tries, witnessed
from appliance.domain.egress import MANY, OTHER

NAMES = {981: "leeward-gateway", 997: "leeward-engine"}


def element(uid: int, address: str, protocol: object, port: int, packets: int) -> dict[str, object]:
    return {
        "elem": {
            "val": {"concat": [uid, address, protocol, port]},
            "counter": {"packets": packets, "bytes": 60 * packets},
        }
    }


def listing(*elements: dict[str, object], counters: dict[str, int], size: int = 4096) -> dict[str, object]:
    counted = [{"counter": {"name": f"outbound_{name}", "packets": n, "bytes": 0}} for name, n in counters.items()]
    tried = {"set": {"name": "tried_ipv4", "size": size, "elem": list(elements)}}
    return {"nftables": [{"metainfo": {}}, *counted, {"set": {"name": "tried_ipv6", "size": size}}, tried]}


def told(listed: dict[str, object]) -> list[tuple[str, str, str, int]]:
    return [(t.account, t.protocol, t.destination, t.count) for t in table_tries(listed, NAMES.__getitem__)]


def test_destinations_are_named_with_their_account_and_count() -> None:
    listed = listing(
        element(997, "8.8.8.8", 6, 443, 2),
        element(997, "127.0.0.1", "udp", 53, 1),
        element(981, "2001:db8::1", "tcp", 443, 1),
        counters={"leeward-engine": 3, "leeward-gateway": 1, "dropped": 99},
    )

    assert told(listed) == [
        ("leeward-engine", "tcp", "8.8.8.8:443", 2),
        ("leeward-engine", "udp", "127.0.0.1:53 (name lookup)", 1),
        ("leeward-gateway", "tcp", "[2001:db8::1]:443", 1),
    ]


def test_what_is_counted_beyond_the_destinations_is_not_lost() -> None:
    assert told(listing(counters={"leeward-engine": 4})) == [("leeward-engine", "other", OTHER, 4)]
    assert told(listing(element(997, "8.8.8.8", 6, 1, 1), counters={"leeward-engine": 9}, size=1))[1:] == [
        ("leeward-engine", "other", MANY, 8)
    ]


def test_an_administrator_who_enters_the_engines_network_is_not_taken_for_the_engine() -> None:
    root = element(0, "10.88.0.1", 6, 22, 1)

    assert [t.account for t in table_tries(listing(root, counters={"leeward-engine": 1}), lambda _uid: "root")] == [
        "root"
    ]


def test_the_witness_adds_up_to_what_it_counted_and_others_words_are_left() -> None:
    lines = [
        {"__CURSOR": "a", "MESSAGE": "INFO engine says hello"},
        *({"__CURSOR": "b", "MESSAGE": f'leeward-witness {{"name": "@x", "count": {n}}}'} for n in (1, 10, 100)),
        {"__CURSOR": "c", "MESSAGE": [104, 105]},
        {"__CURSOR": "d", "MESSAGE": "leeward-witness forged"},
    ]

    tries, cursor = witnessed("\n".join(json.dumps(line) for line in lines))

    assert sum(each.count for each in tries if each.destination == "@x") == 100
    assert [each.destination for each in tries][-1] == "(a line that cannot be read)"
    assert cursor == "d"


def test_a_place_that_cannot_be_read_is_named_and_the_others_still_count() -> None:
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str | None:
        asked.append(command)
        if "leeward_engine" in command:
            return None
        return json.dumps(listing(element(981, "8.8.8.8", 6, 443, 1), counters={})) if "list" in command else ""

    reading = EgressTables(run=run, name_of=NAMES.__getitem__).read("s=1")

    assert reading.missing == ("the table in the engine's network",)
    assert [each.account for each in reading.counted] == ["leeward-gateway"]
    assert "--after-cursor=s=1" in asked[-1]
