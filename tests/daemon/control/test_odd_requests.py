"""Every op with every argument replaced by every odd value: all are answered, the node lives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.daemon.cluster import Node
from tests.daemon.wire import Wire

DOT = '"0123456789abcdef:1"'

OPS: dict[str, dict[str, str]] = {
    "say": {"room": '"ops"', "body": '"hi"', "as": '"ann"', "wait": "0", "timeout": "0.01",
            "once": '["me",1]', "bodies": '["a"]'},
    "follow": {"room": '"ops"', "from": "0", "last": "1", "dot": DOT},
    "log": {"room": '"ops"', "n": "1", "since": '"2026-01-01T00:00:00Z"', "clock": "true",
            "positions": "true"},
    "why": {"dot": DOT, "other": DOT},
    "sync": {"peer": '"ben"'},
    "forget": {"member": '"ben"'},
    "keys": {"add": '"x"', "use": '"x"', "remove": '"x"'},
    "rooms": {},
    "members": {},
    "status": {},
    "digest": {},
    "hello": {},
}  # fmt: skip
"""The arguments of each op but `leave`, as JSON; any of them may be left out."""

ODD: dict[str, str] = {
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "minus zero": "-0.0",
    "minus one": "-1",
    "a tiny number": "1e-300",
    "less than a millisecond": "0.0004",
    "a fraction": "1.5",
    "a huge fraction": "1e300",
    "32 bits": "4294967296",
    "53 bits": "9007199254740993",
    "63 bits": "9223372036854775807",
    "64 bits": "18446744073709551615",
    "65 bits": "18446744073709551616",
    "the least of 64 bits": "-9223372036854775808",
    "no number": "NaN",
    "infinite": "Infinity",
    "an empty text": '""',
    "a space": '" "',
    "a control character": '"\\u0000"',
    "an override": '"\\u202e"',
    "a nonce that is no character": '"\\uffff"',
    "half a surrogate": '"\\ud800"',
    "the last characters": '"\U0010ffff"',
    "a long text": '"%s"' % ("x" * 100_000),
    "a text of wide characters": '"%s"' % ("\U0001f986" * 40),
    "a path": '"../../etc/passwd"',
    "a format": '"%s{0}{x!r}"',
    "a dot": DOT,
    "the dot zero": '"0000000000000000:0"',
    "a dot beyond": '"ffffffffffffffff:9007199254740992"',
    "a time": '"2026-01-01T00:00:00Z"',
    "the first year": '"0001-01-01T00:00:00+14:00"',
    "the last year": '"9999-12-31T23:59:59-14:00"',
    "a key": '"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="',
    "a list": "[]",
    "a list of null": "[null]",
    "a pair": '["me",1]',
    "a pair of numbers": "[1,1]",
    "many pairs": json.dumps([["me", 1]] * 3_000),
    "a list of 3,000 texts": json.dumps(["x"] * 3_000),
    "an object": "{}",
    "bytes": '{"base64":"/w=="}',
    "bytes that are a number": '{"base64":7}',
    "bytes in bytes": '{"base64":{"base64":""}}',
    "deep lists": "[" * 200 + "]" * 200,
    "deep objects": '{"a":' * 200 + "1" + "}" * 200,
    "deeper than is read": "[" * 5_000 + "]" * 5_000,
}
"""Values, as JSON or what looks like it."""


def line(op: str, arguments: dict[str, str], number: int) -> bytes:
    """A request. Both sides of each argument are JSON already."""
    parts = [f'"op":{json.dumps(op)}', *(f'"{k}":{v}' for k, v in arguments.items())]
    return ("{" + ",".join((*parts, f'"id":{number}')) + "}\n").encode()


def odd_requests(op: str) -> list[dict[str, str]]:
    """The arguments of one op, each of them odd in turn, alone and beside all others."""
    usual, odd = OPS[op], []
    for name in (*usual, "unknown"):
        for value in ODD.values():
            alone = {"room": '"ops"', "body": '"hi"'} if op == "say" else {}
            odd += [{**alone, name: value}, {**usual, name: value}]
    return odd


async def settled(wire: Wire, number: int) -> dict[str, Any]:
    """Read on until the answer of this request has come to its end; give its last record."""
    while True:
        record = await wire.read()
        is_end = "ok" in record or "caught_up" in record
        if is_end and record.get("id") in (number, None):
            return record


@pytest.mark.parametrize("op", OPS)
async def test_each_is_answered_and_the_node_lives(ann: Node, wires: list[Wire], op: str) -> None:
    """With what was asked, or with an error and a hint; then the connection goes on."""
    await (await Wire.to(ann, wires)).ask({"op": "say", "room": "ops", "body": "first"})
    wire = await Wire.to(ann, wires)
    for number, arguments in enumerate(odd_requests(op)):
        if op == "follow" and number % 200 == 0:
            wire = await Wire.to(ann, wires)  # A connection may have a bounded number of them.
        request = line(op, arguments, number)
        await wire.send(request)
        answer = await settled(wire, number)
        if answer.get("ok") is False:
            assert answer["error"], request[:200]
            assert answer["hint"], request[:200]
            assert "traceback" not in answer["error"].lower(), request[:200]
    assert (await (await Wire.to(ann, wires)).ask({"op": "hello"}))["ok"]
    status = await ann.ask("status")
    assert status["healthy"], status["reasons"]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_an_odd_op_or_id_is_one_more_request(resident_wire: Wire, odd: str) -> None:
    """The next line is read whatever this one was."""
    for request in (f'{{"op":{odd}}}', f'{{"op":"rooms","id":{odd}}}', f'{{"id":{odd}}}', odd):
        await resident_wire.send(request.encode() + b'\n{"op":"hello","id":"end"}\n')
        while (await resident_wire.read()).get("id") != "end":
            pass
