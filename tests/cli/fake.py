"""A daemon that only talks.

The fake keeps messages in a list and speaks the control socket's protocol for real, so that what is
tested is the client's side of every line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

LOG = "9f2c61d0a47be813"

BODY_CHARS_MAX = 65_536

DEADLINE_S = 30.0
"""On a quiet machine nothing takes a tenth of this time."""

MEMBERS = [
    {
        "id": "00000000000000aa",
        "name": "ann",
        "address": "127.0.0.1:7352",
        "state": "alive",
        "incarnation": 1_800_000_000,
        "since": "2026-01-02T03:04:05.678Z",
        "rtt_ms": None,
        "health": 0,
        "self": True,
        "tags": {"dc": "eu", "role": "db"},
    },
    {
        "id": "00000000000000bb",
        "name": "ben",
        "address": "127.0.0.1:7353",
        "state": "suspect",
        "incarnation": 1_800_000_001,
        "since": "2026-01-02T03:04:05.678Z",
        "rtt_ms": 0.25,
        "health": 2,
        "self": False,
        "tags": {},
    },
]

STATUS = {
    "healthy": True,
    "reasons": [],
    "node": {
        "id": "00000000000000aa",
        "name": "ann",
        "address": "127.0.0.1:7352",
        "cluster": "flc",
        "sealed": False,
        "version": "0.1.0",
        "uptime_s": 3_700,
        "incarnation": 1_800_000_000,
    },
    "members": {"alive": 1, "suspect": 1, "dead": 0, "left": 0},
    "messages": 12,
    "logs": 2,
    "rooms": 1,
    "root": "0123456789abcdef",
    "members_root": "fedcba9876543210",
    "catching_up": 0,
    "sync": {"agrees": {"00000000000000bb": True}, "idle": True},
    "drops": {"not ours": 3, "too large": 0},
    "disk": {"free_bytes": 5_000_000_000, "database_bytes": 40_960, "writable": True},
    "novelty": {"nobody": "knows"},
}


SYNC = {
    "asked": [{"id": "00000000000000bb", "name": "ben", "address": "127.0.0.1:7353"}],
    "to_go": 0,
}


class FakeDaemon:
    """A daemon with its rooms in memory, behind a real Unix socket in `data`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.messages: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.status = dict(STATUS)
        self.looks: list[dict[str, Any]] = []
        """Changes of the status: each request for it makes the next one."""
        self.sync: dict[str, Any] = {"ok": True, **SYNC}
        self.held_by: dict[str, Any] = {}
        self.answers_says = True
        self.hears_says = 0
        """So many bodies are still taken, in their order, while it answers no say."""
        self.refuses: Callable[[object], bool] = _is_too_large
        """Which bodies it refuses. It says of all of them that they are too large."""
        self._once: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._followers: list[tuple[asyncio.StreamWriter, str | None, int | None]] = []

    async def start(self) -> None:
        """Listen on the socket."""
        self.server = await asyncio.start_unix_server(
            self._serve, str(self.data / "control.sock"), limit=16 << 20
        )

    def drop_all(self) -> None:
        """Drop all connections, as `kill -9` would."""
        self.server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._followers.clear()

    def hear(self, author: str, body: object, room: str = "lobby") -> dict[str, Any]:
        """Append a message that came from elsewhere."""
        return self._append(None, {"room": room, "as": author, "body": body})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a request makes `condition` true; raises TimeoutError if none does."""
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(condition)

    @property
    def bodies(self) -> list[object]:
        """The bodies of all messages."""
        return [message["body"] for message in self.messages]

    @property
    def said(self) -> list[tuple[str, int, object]]:
        """Give each line that was to be said under a number: (client, number, body)."""
        return [
            (request["once"][0], number, body)
            for request in self.asked("say")
            for number, body in enumerate(_bodies_of(request), request["once"][1])
        ]

    def asked(self, op: str) -> list[dict[str, Any]]:
        """Give the requests of one op."""
        return [request for request in self.requests if request["op"] == op]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError):
            while (line := await reader.readline()) and not writer.is_closing():
                request = json.loads(line)
                self.requests.append(request)
                for answer in self._answers(writer, request):
                    self._send(writer, {**answer, "id": request.get("id")})
                await writer.drain()
                async with self.changed:
                    self.changed.notify_all()
        writer.close()

    def _send(self, writer: asyncio.StreamWriter, record: dict[str, Any]) -> None:
        if not writer.is_closing():
            writer.write(json.dumps(record).encode() + b"\n")

    def _answers(
        self, writer: asyncio.StreamWriter, request: dict[str, Any]
    ) -> list[dict[str, Any]]:
        op = request["op"]
        if op == "say":
            bodies = _bodies_of(request)
            if self.answers_says:
                return [self._answer(request, self._keep(writer, request, bodies))]
            taken = self._keep(writer, request, bodies[: self.hears_says])
            self.hears_says -= len(taken)
            return []
        if op == "follow":
            return self._follow(writer, request)
        if op == "leave":
            asyncio.get_running_loop().call_later(0.01, self.drop_all)
            return [{"ok": True}]
        return {"log": self._log, "rooms": self._rooms}.get(op, lambda _: _records(self, op))(
            request
        )

    def _keep(
        self, writer: asyncio.StreamWriter, request: dict[str, Any], bodies: list[object]
    ) -> list[dict[str, Any] | None]:
        """Give the message of each body, and None where it is refused."""
        client, n = request.get("once") or (object(), 1)
        kept: list[dict[str, Any] | None] = []
        for number, body in enumerate(bodies, n):
            message = self._once.get((client, number))
            if message is None and not self.refuses(body):
                message = self._append(writer, {**request, "body": body})
                self._once[client, number] = message
            kept.append(message)
        return kept

    def _answer(self, request: dict[str, Any], kept: list[dict[str, Any] | None]) -> dict[str, Any]:
        reason = f"body has more than {BODY_CHARS_MAX} bytes"
        told: dict[str, Any] = {"error": reason, "hint": "say it in pieces"}
        seqs = [message["seq"] for message in kept if message]
        position = seqs[-1] if seqs else None
        more = {"position": position, **(self.held_by if "wait" in request else {})}
        if "bodies" in request:
            more["spans"] = [f"{LOG}:{seq}-{seq}" for seq in seqs]
            refused = [place for place, message in enumerate(kept) if not message]
            error = f"{len(refused)} of {len(kept)} messages: {reason}"
            told |= {
                **more,
                "refused": refused,
                "reasons": [dict(told)] * len(refused),
                "error": error,
            }
        else:
            more["dot"] = f"{LOG}:{position}"
        is_kept = len(seqs) == len(kept)
        return {"ok": is_kept, **(more if is_kept else told)}

    def _append(
        self, writer: asyncio.StreamWriter | None, request: dict[str, Any]
    ) -> dict[str, Any]:
        seq = len(self.messages) + 1
        message = {
            "dot": f"{LOG}:{seq}",
            "log": LOG,
            "seq": seq,
            "room": request["room"],
            "author": request.get("as", "ann"),
            "body": request["body"],
            "said_at": "2026-01-02T03:04:05.678Z",
            "stamp": 115_000_000_000_000 + seq,
            "causes": [],
        }
        self.messages.append(message)
        for follower, room, number in self._followers:
            if room in (None, message["room"]):
                record = {"message": message, "position": seq, "own": follower is writer}
                self._send(follower, {**record, "id": number})
        return message

    def _follow(
        self, writer: asyncio.StreamWriter, request: dict[str, Any]
    ) -> list[dict[str, Any]]:
        room = request["room"]
        self._followers.append((writer, room, request.get("id")))
        if "dot" in request and request["dot"] != f"{LOG}:{request['from']}":
            hint = "follow from --last"
            return [{"ok": False, "error": f"position {request['from']} is another", "hint": hint}]
        old = [m for m in self.messages if room in (None, m["room"])]
        if "from" in request:
            old = [m for m in old if m["seq"] > request["from"]]
        else:
            old = old[-request["last"] :] if request.get("last") else []
        shown = [{"message": m, "position": m["seq"], "own": False} for m in old]
        return [*shown, {"caught_up": True, "position": len(self.messages)}]

    def _log(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        items = [dict(m) for m in self.messages if request["room"] in (None, m["room"])]
        for item in items:
            seq = item["seq"]
            item.update({"clock": {LOG: seq}} if request["clock"] else {})
            item.update({"position": seq} if request["positions"] else {})
        end = {"ok": True, "end": True, "position": len(self.messages)}
        return [*({"item": item} for item in items[-request["n"] :]), end]

    def _rooms(self, _request: dict[str, Any]) -> list[dict[str, Any]]:
        said_at = "2026-01-02T03:04:05.678Z"
        rooms = dict.fromkeys(m["room"] for m in self.messages)
        counts = [(room, sum(m["room"] == room for m in self.messages)) for room in rooms]
        items = [
            {"room": room, "messages": n, "logs": 1, "last_said_at": said_at, "position": n}
            for room, n in counts
        ]
        return [*({"item": item} for item in items), {"ok": True, "end": True}]


def _bodies_of(request: dict[str, Any]) -> list[object]:
    return request["bodies"] if "bodies" in request else [request["body"]]


def _is_too_large(body: object) -> bool:
    return isinstance(body, str) and len(body) > BODY_CHARS_MAX


def _records(daemon: FakeDaemon, op: str) -> list[dict[str, Any]]:
    root, other = "0123456789abcdef", "fedcba9876543210"
    one = {"ok": True, "root": root, "members_root": other, "logs": 2, "messages": 12}
    many = [*({"item": member} for member in MEMBERS), {"ok": True, "end": True}]
    if op == "status" and daemon.looks:
        daemon.status |= daemon.looks.pop(0)
    status = {"ok": True, **daemon.status}
    return {"status": [status], "digest": [one], "members": many, "sync": [daemon.sync]}[op]


class Ended(NamedTuple):
    """The exit code and the output of a run of flc."""

    code: int
    out: str
    err: str


Flc = Callable[..., Awaitable[Ended]]
Spawn = Callable[..., Awaitable[asyncio.subprocess.Process]]
