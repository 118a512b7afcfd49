import json
import re
import secrets
from pathlib import Path

import flc_udp
from flc_udp.model.message import decode
from flc_udp.wire.message_json import read_encoded
from tests.daemon.cluster import Cluster, say_all

PING = {
    "kind": "ping",
    "nonce": 7,
    "root": "0" * 16,
    "members_root": "0" * 16,
    "catching_up": False,
    "log": "0" * 16,
}
HASTE = ("-w", "1")


async def test_a_node_answers_what_is_typed(cluster: Cluster) -> None:
    """A ping has its ack, with the nonce that was typed; a probe is exit 0."""
    (ann,) = await cluster.start(1)
    words = ann.address.rsplit(":", 1)
    typed = await ann.flc("udp", *words, *HASTE, stdin=json.dumps(PING).encode())
    answers = [packet for record in typed.records for packet in record["packets"]]

    assert typed.code == 0
    assert [a["nonce"] for a in answers if a["kind"] == "ack"] == [7]
    assert {(r["from"], r["sender"]) for r in typed.records} == {(ann.address, ann.id)}
    assert (await ann.flc("udp", "-z", *words)).code == 0
    assert list(await ann.states()) == ["ann"]


async def test_the_question_of_the_debugging_page_is_answered(cluster: Cluster) -> None:
    """As the page prints it, key for key."""
    page = (Path(flc_udp.__file__).parent / "docs" / "debugging.md").read_text("utf-8")
    (question,) = re.findall(r"^echo '(\{.*\})' \|$", page, re.MULTILINE)
    shown = json.loads(re.findall(r"^\{\"from\".*$", page, re.MULTILINE)[0])
    (ann,) = await cluster.start(1)
    asked = await ann.flc("udp", *ann.address.rsplit(":", 1), *HASTE, stdin=question.encode())
    (answer,) = asked.records

    assert asked.code == 0
    assert answer | {"from": 0, "sender": 0} == shown | {"from": 0, "sender": 0}


async def test_history_can_be_pulled_by_hand(cluster: Cluster) -> None:
    """A pull is answered by messages as people read them, that are the bytes a node holds."""
    (ann,) = await cluster.start(1)
    async with await ann.client() as client:
        (dot,) = await say_all(client, "ops", ["hi"])
    log, _, seq = dot.partition(":")
    want = {"log": log, "low": int(seq), "high": int(seq)}
    pull = {
        "kind": "pull",
        "nonce": 9,
        "credit": 10_000,
        "graft": False,
        "after": 0,
        "below": 1 << 62,
        "wants": [want],
    }
    typed = await ann.flc("udp", ann.address, *HASTE, stdin=json.dumps(pull).encode())
    packets = [packet for record in typed.records for packet in record["packets"]]
    (message,) = [m for p in packets if p["kind"] == "replay" for m in p["messages"]]

    assert (message["dot"], message["body"]) == (dot, "hi")
    assert str(decode(read_encoded(message)).dot) == dot


async def test_another_key_is_silent(cluster: Cluster) -> None:
    """Without a key of the ring nothing answers."""
    (ann,) = await cluster.start(1)
    probed = await ann.flc("udp", "-z", "-v", ann.address, *HASTE, "--cluster", secrets.token_hex())

    assert probed.code == 3
    assert "key or cluster name?" in probed.err
