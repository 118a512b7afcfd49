import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.wire.packet_json import KINDS, packet_record, read_packet
from flc_udp.wire.packets import Have, Packet, PingReq, Replay, Rumor
from tests.wire.strategies import packets
from tests.wire.test_block_json import written

LOG = "9f2c61d0a47be813"
ROW = {
    "id": LOG,
    "incarnation": 5,
    "state": "alive",
    "address": "10.0.0.1:7352",
    "name": "ann",
    "boot": 9,
}


TAG = {"key": "role", "value": "db"}
BASE = {"log": LOG, "head": {"seq": 9, "hash": LOG, "stamp": 5}, "origin": None, "rooms": []}
BASE_ROOM = {"room": "ops", "seq": 10, "edge": None}


def refusal(record: object) -> FlcError:
    """Why it is refused."""
    with pytest.raises(FlcError) as refused:
        read_packet(record)
    return refused.value


@given(packets)
def test_a_packet_is_typed_as_it_is_printed(packet: Packet) -> None:
    """Every kind, through JSON, is the very packet again."""
    line = json.dumps(packet_record(packet))

    assert packet == read_packet(json.loads(line))


@given(st.lists(written(), min_size=1, max_size=3))
def test_blocks_are_readable_on_the_way(blocks: list[bytes]) -> None:
    """Pushed or replayed, their records are part of the packet's."""
    for packet in (Rumor(False, 0, tuple(blocks)), Replay(7, tuple(blocks))):
        record: Any = packet_record(packet)

        assert {"dot", "bodies", "causes"} <= set(record["blocks"][0])
        assert packet == read_packet(json.loads(json.dumps(record)))


def test_every_kind_has_a_name_and_a_description() -> None:
    """None is left out, and each field says what it takes."""
    assert set(get_args(Packet)) == {struct.made for struct in KINDS.values()}
    assert {name: form.allowed for name, form in KINDS["receipt"].fields.items()} == {
        "log": "16 hex digits",
        "seq": "a whole number from 1 to 9007199254740991",
    }
    for struct in KINDS.values():
        assert list(struct.made._fields) == list(struct.fields)


def test_how_it_looks() -> None:
    """Kinds and fields by their names, ids as hex, dots as they are printed elsewhere."""
    log = bytes.fromhex(LOG)

    assert packet_record(PingReq(7, log)) == {"kind": "ping-req", "nonce": 7, "node": LOG}
    assert {"kind": "have", "pull": True, "dots": [f"{LOG}:17"]} == packet_record(
        Have(True, (Dot(log, 17),))
    )


def test_what_has_a_default_can_be_left_out() -> None:
    """An accuser is a visitor, a want has no pieces."""
    record: Any = packet_record(read_packet({"kind": "join", "row": ROW}))

    assert record["row"]["accuser"] == "0" * 16


def test_tags_are_objects() -> None:
    """Of a key and a value, in the order of the keys."""
    tags = [{"key": "dc", "value": "eu"}, {"key": "role", "value": "db"}]
    record: Any = packet_record(read_packet({"kind": "join", "row": {**ROW, "tags": tags}}))

    assert record["row"]["tags"] == tags


@pytest.mark.parametrize(
    ("record", "named", "allowed"),
    [
        (7, "a packet", "ping-req"),
        ({}, "kind", "ping-req"),
        ({"kind": ["ping"]}, "kind", "ping-req"),
        ({"kind": "pong"}, "'pong'", "ping-req"),
        ({"kind": "nack"}, "nack lacks 'nonce'", "a whole number"),
        ({"kind": "nack", "nonce": 1, "node": 2}, "'node'", "nonce"),
        ({"kind": "prune", "nonce": 1}, "'nonce'", "no fields"),
        ({"kind": "nack", "nonce": True}, "nack.nonce is True", "a whole number"),
        ({"kind": "nack", "nonce": 1 << 64}, "nack.nonce is", "2^64-1"),
        ({"kind": "ping-req", "nonce": 1, "node": "9f"}, "ping-req.node", "16 hex digits"),
        ({"kind": "ping-req", "nonce": 1, "node": 9}, "ping-req.node", "16 hex digits"),
        ({"kind": "have", "pull": 0, "dots": []}, "have.pull is 0", "true or false"),
        ({"kind": "have", "pull": True, "dots": "x"}, "have.dots", "an array"),
        ({"kind": "have", "pull": True, "dots": ["x"]}, "have.dots[0]: 'x' is not", "a dot"),
        ({"kind": "have", "pull": True, "dots": [7]}, "have.dots[0] is 7", "a dot"),
        ({"kind": "join", "row": 1}, "join.row", "incarnation"),
        ({"kind": "join", "row": {**ROW, "state": "ill"}}, "join.row.state", "suspect"),
        ({"kind": "join", "row": {**ROW, "address": "a:1"}}, "join.row.address", "numeric"),
        ({"kind": "join", "row": {**ROW, "name": "\ud800"}}, "join.row.name", "UTF-8"),
        ({"kind": "join", "row": {**ROW, "tags": {"a": "b"}}}, "join.row.tags", "an array"),
        ({"kind": "join", "row": {**ROW, "tags": [{"key": "a"}]}}, "join.row.tags[0] is", "value"),
        ({"kind": "join", "row": {**ROW, "tags": [TAG, TAG]}}, "join.row.tags: ", "array"),
        ({"kind": "join", "row": {**ROW, "id": "0" * 16}}, "join.row.id is", "16 hex"),
        ({"kind": "members", "rows": [{}]}, "members.rows[0] lacks 'id'", "16 hex"),
        ({"kind": "replay", "nonce": 1, "blocks": [{}]}, "replay.blocks[0]", "dot"),
    ],
)
def test_a_bad_key_is_named(record: object, named: str, allowed: str) -> None:
    """The error says which, the hint what is allowed there."""
    error = refusal(record)

    assert named in str(error)
    assert allowed in error.hint


@pytest.mark.parametrize(
    ("record", "named", "allowed"),
    [
        ({"kind": "receipt", "log": LOG, "seq": 0}, "receipt.seq", "from 1 to 9007199254740991"),
        ({"kind": "ranges", "low": LOG, "level": 99, "hashes": "00" * 512}, "ranges.level", "to 9"),
        ({"kind": "ranges", "low": LOG, "level": 1, "hashes": "00"}, "ranges.hashes", "1024 hex"),
        ({"kind": "receipt", "log": "", "seq": 1}, "receipt.log", "16 hex digits"),
        (
            {"kind": "member-digest", "low": "f" * 16, "high": LOG, "rows": []},
            "member-digest: digest range is empty",
            "low: 16 hex digits; high",
        ),
        (
            {"kind": "base", "nonce": 1, "rows": [{**BASE, "rooms": [BASE_ROOM]}]},
            "base.rows[0]: base room is none of its log's",
            "rooms: an array",
        ),
        ({"kind": "update", "rows": [{**ROW, "incarnation": 1 << 63}]}, "update.rows[0]", "from 0"),
    ],
)
def test_what_no_node_accepts_is_refused(record: object, named: str, allowed: str) -> None:
    """The wire's own decoder has the last word, and its limits are told."""
    error = refusal(record)

    assert named in str(error)
    assert allowed in error.hint
