import json
import re
import secrets
from pathlib import Path

import flc_udp
from flc_udp.model.block import decode
from flc_udp.wire.block_json import read_encoded
from tests.daemon.blocks import many
from tests.daemon.cluster import Cluster, say_all
from tests.daemon.wire import Wire

PING = {
    "kind": "ping",
    "nonce": 7,
    "root": "0" * 16,
    "members_root": "0" * 16,
    "catching_up": False,
    "log": "0" * 16,
}
HASTE = ("-w", "1")


def pull(want: dict[str, object]) -> bytes:
    """The line that asks for a span of a log."""
    packet = {
        "kind": "pull",
        "nonce": 9,
        "credit": 10_000,
        "graft": False,
        "after": 0,
        "below": 1 << 62,
        "wants": [want],
    }
    return json.dumps(packet).encode()


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
    """A pull is answered by blocks as people read them, that are the bytes a node holds."""
    (ann,) = await cluster.start(1)
    async with await ann.client() as client:
        (dot,) = await say_all(client, "ops", ["hi"])
    log, _, seq = dot.partition(":")
    want = {"log": log, "low": int(seq), "high": int(seq)}
    typed = await ann.flc("udp", ann.address, *HASTE, stdin=pull(want))
    packets = [packet for record in typed.records for packet in record["packets"]]
    (block,) = [b for p in packets if p["kind"] == "replay" for b in p["blocks"]]

    assert (block["dot"], block["bodies"]) == (dot, ["hi"])
    assert str(decode(read_encoded(block)).dot) == dot


async def test_another_key_is_silent(cluster: Cluster) -> None:
    """Without a key of the ring nothing answers."""
    (ann,) = await cluster.start(1)
    probed = await ann.flc("udp", "-z", "-v", ann.address, *HASTE, "--cluster", secrets.token_hex())

    assert probed.code == 3
    assert "key or cluster name?" in probed.err


async def test_a_block_that_was_pulled_can_be_told_by_hand(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """What one cluster's node printed is a rumor for the node of another: the same messages."""
    ann = cluster.node()
    ben = cluster.node()
    await ann.start()
    await ben.start()
    bodies = ["one", "two", "three", {"base64": "/w=="}]
    wire = await Wire.to(ann, wires)
    (span,) = (await wire.ask(many(*bodies)))["spans"]
    log = span.partition(":")[0]
    for seq in (1, 3, 4):  # Any message of a block brings all of it.
        want = {"log": log, "low": seq, "high": seq}
        pulled = await ann.flc("udp", ann.address, *HASTE, stdin=pull(want))
        replays = [p for r in pulled.records for p in r["packets"] if p["kind"] == "replay"]
        (block,) = [block for replay in replays for block in replay["blocks"]]
        assert (block["dot"], block["bodies"]) == (f"{log}:1", bodies)
    rumor = {"kind": "rumor", "receipt": False, "at": 0, "blocks": [block]}
    await ben.flc("udp", ben.address, *HASTE, stdin=json.dumps(rumor).encode())

    assert await cluster.converged(ann, ben, messages=4)
