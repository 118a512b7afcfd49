"""A machine: a disk and clocks that stay, and a node that runs on them until it crashes.

It is the ground of its node (`ground`), and beyond that it only breaks. It can crash at any moment,
its disk can fail, it can stand still for a while, and its disk can be put back to an earlier state.
"""

from collections.abc import Callable, Sequence
from functools import partial

from flc_udp.config import Settings
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.units import MS_US, SECOND_US
from flc_udp.sim.checks import Utterance
from flc_udp.sim.claims import WatchedSeal
from flc_udp.sim.disk import DiskReader, stored
from flc_udp.sim.ground import HeapGround
from flc_udp.sim.plan import SEEDS
from flc_udp.waist.birth import give_birth, remembered_addresses
from flc_udp.waist.ports import Once
from flc_udp.waist.says import Say, Says, WaitFor
from flc_udp.waist.waits import WaitEnded
from flc_udp.wire.seal import Keyring, Seal

YEAR_MS = 31_557_600_000


class Machine(HeapGround):
    """One machine of the play."""

    # --- Its fate ---------------------------------------------------------------------------------

    def start(self, *, alone: bool = False) -> None:
        """Run a node from what the disk holds. With `alone` it asks nobody to be let in."""
        assert self.node is None, f"{self.name} runs already"
        self._begin_life()
        self._note_ages()
        random = self._stage.random(f"{self.name}/{self._life}")
        look = partial(self._stage.claims.look, self.follower)
        if self.disk.is_away:
            self._trace("F", "cannot start without its directory")
            return

        def seal_of(session: bytes) -> Seal:
            self._seal = WatchedSeal(self.ring, look, session)
            return self._seal

        reader = self._reader = DiskReader(self.disk)
        self.says = Says(lambda: self.running, reader, self._turn_soon)
        self.node = give_birth(
            self.settings, self.name, self.address, self.log, reader, seal_of, self, random
        )
        self._stage.trace.running |= 1 << self.number
        self._stage.checks.named(self.follower, self.node.me.id)
        self._trace("^", f"starts, life {self._life}")
        self.follower.started(self.log)
        if not alone:
            seeds = list(self._network.numbers)[: min(self.number, SEEDS)]
            self.node.join([*seeds, *remembered_addresses(self.log, self)])
        self._turn_soon()

    def leave(self) -> None:
        """Go in order: tell the others, then stop."""
        if self.node is not None:
            self._trace("L", "leaves")
            self.node.leave()
            self._turn_soon()

    def pause(self, duration_us: int) -> None:
        """Stand still. What comes in meanwhile waits."""
        self._paused_until = self.now() + duration_us
        self._buffered = 0
        self._trace("Z", f"stands still for {duration_us // MS_US} ms")

    def jump_clock(self, years: float) -> None:
        """The wall clock of the machine shows another time from now on."""
        self._wall_offset_ms += round(years * YEAR_MS)
        self._trace("T", f"has its clock moved by {years} years")

    def reload(self, settings: Settings) -> None:
        """Its operator sets something else."""
        self.settings = settings
        kept = f"{settings.retention_age_s} s, {settings.retention_bytes} bytes"
        self._trace("O", f"is told to keep {kept}, with tags {', '.join(settings.tags)}")
        if self.node is not None:
            self.node.reload(settings)
            self._turn_soon()

    def rekey(self, ring: Keyring) -> None:
        """Its operator changes its keys."""
        self.ring = ring
        self._trace("O", f"has {len(ring.keys)} keys, of which {ring.keys[0].name} seals")
        if self.node is not None:
            self._seal.rekey(ring)

    def copy_of(self, other: "Machine") -> None:
        """Its disk becomes a copy of another one's."""
        self.disk.snapshots.append(other.disk.connection.serialize())
        self._trace("O", f"gets a copy of the disk of {other.name}")
        self.ages_ms = other.ages_ms
        self.follower.copied(other.follower)
        self.put_back()

    def stop_clock(self) -> None:
        """The wall clock of the machine stands from now on."""
        self._stands_at = self._heap.now
        self._trace("T", "has its clock stand still")

    def set_clock(self) -> None:
        """The wall clock of the machine goes, and is as right as it ever was."""
        self._stands_at, self._wall_offset_ms = None, self._right_ms

    def rot(self, blocks: int = 1) -> list[Dot]:
        """Flip a bit of so many blocks on the disk."""
        dots = self.disk.rot(blocks)
        self.follower.rotted(dots)
        self._trace("R", f"has bits flipped on its disk, of {', '.join(map(str, dots))}")
        return dots

    def bring(self, dots: Sequence[Dot]) -> None:
        """Write these blocks as they were, from copies that are kept elsewhere."""
        assert self.node is None, "blocks are brought while nothing runs on the disk"
        for dot in dots:
            self.disk.bring(self._stage.checks.minted[dot].block)
        self.follower.healed(dots, self.now())
        self._trace("R", f"has {', '.join(map(str, dots))} brought from elsewhere")

    def outlast(self, age_s: int) -> None:
        """Nothing is left that is so old. 0 is no limit."""
        if age_s:
            limit = self.node.stamp_limit() if self.node else 0
            self.follower.outlasted(age_s * SECOND_US, limit, self.now())

    def soundness(self) -> dict[Dot, bool]:
        """{last message: whether it is as it was said} of all blocks on the disk."""
        minted = self._stage.checks.minted
        blocks = stored(self.disk.connection)
        return {dot: minted[dot].block.encoded == encoded for dot, _, encoded in blocks}

    def cannot_read(self, duration_us: int) -> None:
        """Every read of the node fails for a while."""
        self.disk.is_readable = False
        self._trace("R", f"cannot read its disk for {duration_us // MS_US} ms")

        def end() -> None:
            self.disk.is_readable = True

        self._heap.after(duration_us, end)

    def read_all(self) -> None:
        """Somebody reads everything: it is what was said, and what has changed is met."""
        for _, encoded in self._reader.blocks(None):
            self.follower.read(encoded)
        self._turn_soon()

    def put_back(self) -> None:
        """Put the disk of a machine that is down back to the oldest snapshot that is kept."""
        assert self.node is None, "a disk is put back while nothing runs on it"
        self.disk.put_back()
        self.log = self.disk.log()
        self._trace("R", "has its disk put back")
        self.follower.put_back(self.log)

    # --- Its people -------------------------------------------------------------------------------

    def say(
        self,
        room: str,
        *bodies: str | bytes,
        receipt: bool = False,
        once: Once | None = None,
        wait: WaitFor | None = None,
        timeout_ms: int = 10_000,
        then: Callable[["Uttered"], object] = lambda _: None,
    ) -> list[Utterance]:
        """Say these things at once, under the machine's name. What is returned tells their fate.

        `then` is called when they have their answer.
        """
        now = self.now()
        numbers = [once and (once[0], once[1] + place) for place in range(len(bodies))]
        passed = once is not None or wait is not None
        utterances = [
            self.follower.utters(room, body, now, number, may_be_passed=passed)
            for body, number in zip(bodies, numbers, strict=True)
        ]
        under = f" under {once[0]} {once[1]}" if once else ""
        self._trace("S", f"says in {room}{under}: {', '.join(repr(b[:24]) for b in bodies)}")
        say = Uttered(self, utterances, once, wait, timeout_ms * MS_US, then)
        say.receipt |= receipt
        try:
            self.says.check_wait(say.wait)
            self.says.begin(say)
        except FlcError as refusal:
            say.unknown = dict.fromkeys(range(len(bodies)), refusal)
            say.answered()
        return utterances

    def told(self, say: "Uttered") -> None:
        """Somebody is told what became of what was said."""
        reasons = say.reasons()
        self._trace("A", f"is told {reasons[min(reasons)] if reasons else say.dot}")
        dots = (Dot(log, seq) for log, low, high in say.spans() for seq in range(low, high + 1))
        for place, utterance in enumerate(say.utterances):
            answer = reasons[place] if place in reasons else next(dots)
            self.follower.answered(utterance, answer)
        if say.ended is not None:
            self._stage.checks.demand_held(say.dot, say.ended.held_by)
        self._heap.after(0, say.then, say)  # Nobody says anything in the middle of a turn.

    def wait(
        self, dot: Dot, needed: int | None = None, timeout_ms: int = 10_000
    ) -> list[WaitEnded]:
        """Wait until other nodes hold what was said here. How it ended comes into the list."""
        ended: list[WaitEnded] = []
        self.running.wait(dot, needed, timeout_ms * MS_US, ended.append)
        self._turn_soon()
        return ended


class Uttered(Say):
    """What somebody says at a machine."""

    __slots__ = ("_machine", "then", "utterances")

    def __init__(
        self,
        machine: Machine,
        utterances: list[Utterance],
        once: Once | None,
        wait: WaitFor | None,
        timeout_us: int,
        then: Callable[["Uttered"], object],
    ) -> None:
        room, bodies = utterances[0].room, [utterance.body for utterance in utterances]
        says, name = machine.says, machine.name
        super().__init__(says, room, name, bodies, once=once, wait=wait, timeout_us=timeout_us)
        self._machine, self.utterances, self.then = machine, utterances, then

    def answered(self) -> None:
        """It has its answer."""
        self._machine.told(self)
