"""The requests that a program can send to a node: say, follow, and look at what it knows."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, TypedDict, Unpack, cast

from flc_udp.client.connection import Connection, DaemonGoneError, Stream
from flc_udp.client.said import Record, Said, SaidMany, said, said_many


class SayOptions(TypedDict, total=False):
    """The default `author` is the node's name; `once` is a client's name and a rising number.

    Of many bodies the first one has that number, and the others count on.
    """

    author: str | None
    wait: int | Literal["all"] | None
    timeout: float | None
    once: tuple[str, int] | None


class Shown(NamedTuple):
    """A message as a follower sees it; `own` means that this very connection said it."""

    message: Record
    position: int
    own: bool


class Client(Connection):
    """One connection to a daemon, with the operations of the control socket as methods."""

    def say_nowait(
        self, room: str, body: str | bytes, **options: Unpack[SayOptions]
    ) -> asyncio.Future[Said]:
        """Say without waiting; the future has the result or FlcError. See `drain` for a limit."""
        request = {"op": "say", "room": room, **_named(options)}
        if "once" in options:  # What was said before stands anywhere, so its answer is its own.
            return self._ask({**request, "body": _as_json(body)}, said)
        return self._say(request, _as_json(body))

    async def say(self, room: str, body: str | bytes, **options: Unpack[SayOptions]) -> Said:
        """Say `body` and wait until it is durable here.

        With `wait`, wait up to `timeout` seconds until other nodes hold it durably, too.
        """
        return await self.say_nowait(room, body, **options)

    def say_many_nowait(
        self, room: str, bodies: Sequence[str | bytes], **options: Unpack[SayOptions]
    ) -> asyncio.Future[SaidMany]:
        """Say many messages in one request, as `say_many` does, without waiting."""
        texts = list(map(_as_json, bodies))
        return self._ask({"op": "say", "room": room, "bodies": texts, **_named(options)}, said_many)

    async def say_many(
        self, room: str, bodies: Sequence[str | bytes], **options: Unpack[SayOptions]
    ) -> SaidMany:
        """Say `bodies` in their order, and wait until all of them are durable here.

        Raises BodiesRefusedError if some were refused; it tells which, and the others are durable.
        A request has at most 16,384 bodies (1,024 with `once`) and 8 MiB. If it has more, nothing
        is said.
        """
        return await self.say_many_nowait(room, bodies, **options)

    def follow(
        self,
        room: str | None = None,
        *,
        position: int | None = None,
        dot: str | None = None,
        last: int | None = None,
    ) -> AsyncIterator[Shown]:
        """Follow a room, or all rooms: from `position` on, or from the `last` N, or only new ones.

        `dot` is the message that stood at `position`. The request is sent now, not at `anext`.
        """
        options = _given({"from": position, "dot": dot, "last": last})
        return _shown(self.stream("follow", room=room, **options))

    def log(self, room: str | None = None, *, n: int = 0, since: str | None = None) -> Stream:
        """Read the converged history, oldest first: the last `n` messages, or all with 0."""
        return self.stream("log", room=room, n=n, since=since, clock=False, positions=False)

    async def rooms(self) -> list[Record]:
        """List the rooms, with how much was said in each."""
        return await self.listed("rooms")

    async def members(self) -> list[Record]:
        """List the members that this node knows, with itself."""
        return await self.listed("members")

    async def status(self) -> Record:
        """Ask how the node is: `healthy`, `reasons`, counters."""
        return await self.request("status")

    async def digest(self) -> Record:
        """Ask for `root`, `members_root`, `logs`, `messages`: equal roots mean equal histories."""
        return await self.request("digest")

    async def why(self, dot: str, other: str | None = None) -> Record:
        """Ask for `message`, `causes` and `clock` of a dot, or for the causal `order` of two."""
        return await self.request("why", dot=dot, other=other)

    async def leave(self) -> None:
        """Make the node leave the cluster; return when its daemon has ended the connection."""
        with suppress(DaemonGoneError):  # The daemon may end before it answers.
            await self.request("leave")
        await self._closed.wait()

    async def request(self, op: str, **arguments: object) -> Record:
        """Ask for one record; raises FlcError with the daemon's words if it refuses."""
        return cast("Record", await self._ask({"op": op, **arguments}, dict))

    async def listed(self, op: str, **arguments: object) -> list[Record]:
        """Ask for a list that is short enough to be held as a whole."""
        return [record["item"] async for record in self.stream(op, **arguments)]


async def _shown(stream: Stream) -> AsyncIterator[Shown]:
    async for record in stream:
        if "message" in record:
            yield Shown(record["message"], record["position"], record["own"])


def _as_json(body: str | bytes) -> str | Record:
    return body if isinstance(body, str) else {"base64": base64.b64encode(body).decode()}


def _named(options: SayOptions) -> Record:
    return _given({"as" if name == "author" else name: value for name, value in options.items()})


def _given(options: Record) -> Record:
    return {name: value for name, value in options.items() if value is not None}
