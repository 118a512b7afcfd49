"""What can be asked on the control socket besides say and follow: answers, and lists of items.

A list is an iterator of records. The last has the key `end` and closes it with what else it has.
Who reads it takes turns with others (`lists`), so between two records anything may have happened.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from flc_udp import __version__
from flc_udp.core.facts import Facts, MemberFacts
from flc_udp.daemon.control.lists import Pause
from flc_udp.daemon.control.reads import SLICE_S
from flc_udp.daemon.control.requests import number_of, room_of, wall_ms_of
from flc_udp.daemon.control.why import why
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.keys import Begun, Keys
from flc_udp.daemon.records import clock_record, member_record
from flc_udp.daemon.watch.status import Status
from flc_udp.model.clocks import STAMP_WALL_SHIFT, wall_of
from flc_udp.model.dots import Dot, parse_dot
from flc_udp.model.errors import FlcError
from flc_udp.model.past import Past
from flc_udp.model.visible import brief, some_of
from flc_udp.store.log import Reader
from flc_udp.wire.message_json import Record, message_record, rfc3339
from flc_udp.wire.ring import find
from flc_udp.wire.rows import State

LOG_LINES = 20
"""The log shows this many messages unless it is asked for others."""

Answering = Callable[[Record], Record]
Listing = Callable[[Record, Pause], AsyncIterator[Record]]


@dataclass(eq=False)
class Operations:
    """The table of ops, and what they read from."""

    ground: LoopGround
    reader: Reader
    status: Status
    keys: Keys
    leave: Callable[[], None]

    def __post_init__(self) -> None:
        """Write the table."""
        self.answers: dict[str, Answering] = {
            "hello": self._hello,
            "status": lambda _request: self.status.record(),
            "digest": lambda _request: self.status.digest(),
            "leave": self._do_leave,
            "forget": self._forget,
            "sync": self._sync,
        }
        self.lists: dict[str, Listing] = {
            "log": self._log,
            "rooms": self._rooms,
            "members": self._members,
            "why": lambda request, pause: why(self.reader, request, pause),
            "keys": self._do_keys,
        }

    def follow_from(self, request: Record) -> tuple[str | None, int]:
        """(room or None for all, position) at which a follow begins; raises FlcError."""
        room = room_of(request)
        start, last = request.get("from"), request.get("last")
        if start is not None and last is not None:
            raise FlcError("from and last exclude each other", "give one of them")
        newest = self.ground.shown
        if last is not None:
            return room, min(self.reader.before_last(room, number_of("last", last)), newest)
        if start is None:
            return room, newest
        position = number_of("from", start)
        if position > newest:
            raise FlcError(
                f"position {position} is not reached yet, the last one is {newest}",
                "follow without a position, or from 0 for all: the disk may have been restored",
            )
        self._check_dot(position, request.get("dot"))
        return room, position

    def _check_dot(self, position: int, text: object) -> None:
        if text is None or position == 0:
            return
        dot, found = parse_dot(str(text)), self.reader.dot_at(position)
        if found is None and self.reader.floor():
            raise FlcError(
                f"position {position} is below the floor: {dot} is no longer kept here",
                f"what came after it may be gone too: go on from {position} alone, or --last N",
            )
        if dot != found:
            raise FlcError(
                f"position {position} holds {found or 'nothing'}, not {dot}",
                "the disk was restored: follow from 0, or --last N, to go on",
            )

    # --- Answers ------------------------------------------------------------------------------

    def _hello(self, _request: Record) -> Record:
        me = self.ground.node.me
        return {"node": me.id.hex(), "name": me.name, "version": __version__}

    def _do_leave(self, _request: Record) -> Record:
        asyncio.get_running_loop().call_soon(self.leave)
        return {}

    def _forget(self, request: Record) -> Record:
        node = self.ground.node
        row = _member_of(node.facts(), request.get("member")).row
        if not node.forget(row.id):
            raise FlcError(
                f"{row.name} is {row.state.name.lower()}, so it cannot be forgotten",
                "only a suspect or dead member is forgotten; one that lives leaves by `flc leave`",
            )
        self.ground.turn_soon()
        return {"member": row.id.hex(), "name": row.name}

    def _sync(self, request: Record) -> Record:
        """The members it asks, and how many messages are known to be missing before they answer."""
        node, peer = self.ground.node, request.get("peer")
        facts = node.facts()
        nodes = [] if peer is None else [_peer_of(facts, peer).row.id]
        ids = node.sync(nodes)
        asked = [member.row for member in facts.members if member.row.id in ids]
        if not asked:
            raise FlcError("no other member is alive to be asked", "see `flc members`")
        self.ground.turn_soon()
        rows = [{"id": r.id.hex(), "name": r.name, "address": str(r.address)} for r in asked]
        return {"asked": rows, "to_go": facts.repair.to_go}

    # --- Lists --------------------------------------------------------------------------------

    async def _rooms(self, _request: Record, _pause: Pause) -> AsyncIterator[Record]:
        for row in self.reader.rooms():
            yield {
                "room": row.room,
                "messages": row.messages,
                "logs": row.logs,
                "last_said_at": rfc3339(wall_of(row.last_stamp)),
                "position": row.position,
            }
        yield {"end": True}

    async def _members(self, _request: Record, _pause: Pause) -> AsyncIterator[Record]:
        node, wall = self.ground.node, self.ground.wall()
        me, *others = node.facts().members
        ids = [member.row.id for member in others]  # There may be thousands of members.
        del others
        yield member_record(me, wall, is_self=True)
        for member in filter(None, map(node.member, ids)):
            yield member_record(member, wall, is_self=False)
        yield {"end": True}

    def keys_listing(self, request: Record) -> Callable[[Pause], AsyncIterator[Record]]:
        """Begin the change of keys that is asked for; its list comes later. Raises FlcError.

        The change is made even if the client goes away meanwhile.
        """
        if not request.get("force"):
            self._check_unused(request.get("remove"))
        return partial(self._list_keys, self.keys.begin(request))

    async def _do_keys(self, request: Record, pause: Pause) -> AsyncIterator[Record]:
        async for item in self.keys_listing(request)(pause):
            yield item

    async def _list_keys(self, begun: Begun, _pause: Pause) -> AsyncIterator[Record]:
        """The ring, after the change that was begun, and who was last heard under which key."""
        about = await self.keys.outcome(begun)
        node = self.ground.node
        live = node.live_rows()
        for key in self.keys.ring.keys:
            heard = [row.name for row in live if node.hearing.key_of(row.id) == key.id]
            seals = key == self.keys.ring.keys[0]
            yield {"id": key.name, "seals": seals, "heard": sorted(heard)}
        yield {"end": True} if about is None else {"end": True, "key": about}

    def _check_unused(self, name: object) -> None:
        """Refuse to remove a key that a live member may seal under: it would be cut off."""
        ring, node = self.keys.ring, self.ground.node
        if not isinstance(name, str) or (gone := find(ring, name.strip())) == ring.keys[0]:
            return  # The change itself refuses that.
        heard = [(row.name, node.hearing.key_of(row.id)) for row in node.live_rows()]
        users = [who for who, key in heard if key == gone.id]
        silent = [who for who, key in heard if key is None]
        if users or silent:
            raise FlcError(
                f"key {gone.name} may be in use: last heard under it: {some_of(users)}; "
                f"not heard since the start: {some_of(silent)}",
                "`flc keys use` another one there, and wait until `flc keys list` has nobody under "
                "this one; `--force` cuts them off",
            )

    async def _log(self, request: Record, pause: Pause) -> AsyncIterator[Record]:
        room = room_of(request)
        since = wall_ms_of(request.get("since"))
        n = number_of("n", request.get("n", LOG_LINES if since is None else 0))
        last_position = self.ground.shown
        wanted = partial(
            self.reader.history, room, last=n or None, since_wall_ms=since, up_to=last_position
        )
        left_out: Counter[str] = Counter()
        past = Past() if request.get("clock") else None
        if past is not None and (n or since is not None) and (first := next(wanted(), None)):
            await self._walk_to(past, room, first[1].dot, pause)
        floor = self._floor_within(room, n, since)
        for position, message in wanted(left_out=left_out):
            if floor is not None and message.stamp >= floor:
                yield {"floor": rfc3339(wall_of(floor))}
                floor = None
            record = message_record(message)
            if past is not None:
                record["clock"] = clock_record(past.pass_over(message))
            if request.get("positions"):
                record["position"] = position
            yield record
        if left_out:
            self.ground.turn_soon()  # It asks others for them, and status tells.
        yield {"end": True, "position": last_position, **left_out}

    def _floor_within(self, room: str | None, n: int, since: int | None) -> int | None:
        """The floor, if a listing of the log reaches down to it."""
        floor = self.reader.floor()
        if not floor or (since is not None and since << STAMP_WALL_SHIFT > floor):
            return None
        return floor if not n or n >= self.reader.held(room) else None

    async def _walk_to(self, past: Past, room: str | None, first: Dot, pause: Pause) -> None:
        """Pass over everything before the lines that are asked for: their clocks depend on it."""
        over_s = time.monotonic() + SLICE_S
        for _, message in self.reader.history(room):
            if message.dot == first:
                return
            past.pass_over(message)
            if time.monotonic() >= over_s:
                await pause()
                over_s = time.monotonic() + SLICE_S


def _member_of(facts: Facts, wanted: object) -> MemberFacts:
    """The only member with that id, or else with that name; raises FlcError."""
    members = facts.members
    found = [m for m in members if m.row.id.hex() == wanted]
    found = found or [m for m in members if m.row.name == wanted]
    if not found:
        raise FlcError(f"no member {brief(wanted)}", "see `flc members`")
    if len(found) > 1:
        ids = ", ".join(member.row.id.hex() for member in found)
        raise FlcError(
            f"{len(found)} members are called {brief(wanted)}", f"give one of their ids: {ids}"
        )
    return found[0]


def _peer_of(facts: Facts, wanted: object) -> MemberFacts:
    """The only other member with that id or name, which is alive; raises FlcError."""
    member = _member_of(facts, wanted)
    row = member.row
    if member is facts.members[0]:
        raise FlcError(f"{row.name} is this node itself", "name another: see `flc members`")
    if row.state is not State.ALIVE:
        raise FlcError(
            f"{row.name} is not alive, its state is {row.state.name.lower()}",
            "name a member that is alive, or none: see `flc members`",
        )
    return member
