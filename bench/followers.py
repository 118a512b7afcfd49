"""What followers cost a daemon, and what one costs that is stopped while much is said.

    python bench/followers.py --messages 1000000 --followers 10

Real daemons on loopback, and real `flc nc -d` processes that follow one room of the first node.
Messages of 100 bytes are said on the last node, over one connection, as fast as they are taken.
First a part of them with all followers reading, so that the daemon's memory is what it is under
this load. Then one follower is stopped by SIGSTOP while all the others go on, and after the last
message SIGCONT lets it go on. Each follower's output has to be, byte for byte, what was said: no
gap, no double, no other order. Memory is the followed daemon's, in MB (proc(5)).

However far behind a follower is, it should be a few numbers to the daemon. So the memory should
grow no more with one stopped than with none.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time

import harness

from flc_udp.cli.run.cluster import FLC, LocalCluster, LocalNode, until

OPTIONS = {
    "--messages": (1_000_000, "messages said with one follower stopped"),
    "--before": (200_000, "messages said with all followers reading"),
    "--followers": (10, "flc nc -d processes"),
    "--nodes": (1, "daemons; on the last one messages are said"),
    "--limit": (600.0, "seconds that a phase may take"),
}
ROOM = "ops"
BODY_BYTES = 100
LINES_A_WRITE = 256
READ_BYTES = 1 << 20
LOOK_S = 0.02


def body(number: int) -> str:
    """Make a body that is like no other, so that a gap and a double are seen."""
    return f"{number:0{BODY_BYTES}d}"


class SaidLines:
    """All that is said, as a follower has to print it: 101 bytes a message."""

    def __init__(self) -> None:
        self.lines = b""

    @property
    def count(self) -> int:
        """How many messages that is."""
        return len(self.lines) // (BODY_BYTES + 1)

    def grow(self, count: int) -> range:
        """Add messages, and give their numbers."""
        numbers = range(self.count, self.count + count)
        self.lines += b"".join(f"{body(number)}\n".encode() for number in numbers)
        return numbers


class Follower:
    """One `flc nc -d`, whose output is compared as it comes and not kept."""

    process: asyncio.subprocess.Process

    def __init__(self, node: LocalNode, said: SaidLines) -> None:
        self._node, self._said = node, said
        self._read_bytes = 0
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        """Follow what is said from now on."""
        command = [*FLC, "nc", "-d", ROOM, "--data", str(self._node.data)]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
        self._reading = asyncio.create_task(self._compare())

    @property
    def messages(self) -> int:
        """How many messages it has printed; it ends the bench where it printed anything else."""
        if self._reading.done():
            self._reading.result()
            raise SystemExit("error: a follower ended")
        return self._read_bytes // (BODY_BYTES + 1)

    async def _compare(self) -> None:
        assert self.process.stdout is not None
        while printed := await self.process.stdout.read(READ_BYTES):
            end = self._read_bytes + len(printed)
            if printed != self._said.lines[self._read_bytes : end]:
                at = self._read_bytes // (BODY_BYTES + 1)
                raise SystemExit(f"error: after message {at} a follower printed another than said")
            self._read_bytes = end

    async def end(self) -> None:
        """End it by its id, also while it is stopped."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)


async def _measure(args: argparse.Namespace, cluster: LocalCluster) -> harness.Result:
    nodes = await cluster.start(args.nodes, *harness.LAN)
    said = SaidLines()
    followers = [Follower(nodes[0], said) for _ in range(args.followers)]
    for follower in followers:
        await follower.start()
    try:
        return await _phases(args, nodes, said, followers)
    finally:
        for follower in followers:
            await follower.end()


async def _phases(
    args: argparse.Namespace, nodes: list[LocalNode], said: SaidLines, followers: list[Follower]
) -> harness.Result:
    async def all_follow() -> bool:
        clients = (await nodes[0].control.status())["clients"]
        return bool(clients["follows"] == args.followers)

    await until("all follow", all_follow)
    stopped, others = followers[-1], followers[:-1]
    began = harness.memory(nodes[0])
    harness.forget_peaks(nodes)
    rate_all = await _say(args, nodes, said, args.before, followers)
    before = harness.memory(nodes[0])
    stopped.process.send_signal(signal.SIGSTOP)
    cpu = harness.cpu_s(nodes)[0]
    harness.forget_peaks(nodes)
    rate_others = await _say(args, nodes, said, args.messages, others)
    cpu = harness.cpu_s(nodes)[0] - cpu
    missed, after = said.count - stopped.messages, harness.memory(nodes[0])
    stopped.process.send_signal(signal.SIGCONT)
    harness.forget_peaks(nodes)
    resumed_s = await _until_read(args, said, [stopped], "the stopped one reads on")
    resumed = harness.memory(nodes[0])
    await asyncio.sleep(1)  # Nothing more may come.
    if {follower.messages for follower in followers} != {said.count}:
        raise SystemExit("error: a follower printed more or less than was said")
    return {
        "messages_per_s_all_follow": round(rate_all),
        "messages_per_s_one_stopped": round(rate_others),
        "daemon_us_a_message": round(1e6 * cpu / args.messages, 1),
        "missed_by_the_stopped": missed,
        "resumed_s": round(resumed_s, 2),
        "resumed_messages_per_s": round(missed / resumed_s),
        "memory_mb_started": began.now_mb,
        "memory_mb_all_follow_most": before.peak_mb,
        "memory_mb_before_the_stop": before.now_mb,
        "memory_mb_stopped_most": after.peak_mb,
        "memory_mb_stopped_at_the_end": after.now_mb,
        "memory_mb_resuming_most": resumed.peak_mb,
        "memory_mb_resumed": harness.memory(nodes[0]).now_mb,
        "messages": args.messages,
        "followers": args.followers,
        "nodes": args.nodes,
        "machine": harness.machine(),
    }


async def _say(
    args: argparse.Namespace,
    nodes: list[LocalNode],
    said: SaidLines,
    count: int,
    readers: list[Follower],
) -> float:
    """Say messages and wait until these have printed them all; give the messages a second."""
    numbers = said.grow(count)
    began_s = time.perf_counter()
    saying = asyncio.create_task(_write(nodes[-1].control.path, numbers))
    took_s = await _until_read(args, said, readers, f"{count:,} messages") if readers else 0.0
    await saying
    return count / (took_s or time.perf_counter() - began_s)


async def _write(path: str, numbers: range) -> None:
    """Say them in order over one connection; a socket that takes no more slows it."""
    reader, writer = await asyncio.open_unix_connection(path)
    counting = asyncio.create_task(_count(reader, len(numbers)))
    for at in range(0, len(numbers), LINES_A_WRITE):
        lines = [
            f'{{"op":"say","room":"{ROOM}","body":"{body(number)}"}}\n'
            for number in numbers[at : at + LINES_A_WRITE]
        ]
        writer.write("".join(lines).encode())
        await writer.drain()
    await counting
    writer.close()


async def _count(reader: asyncio.StreamReader, count: int) -> None:
    """Read that many answers; a refusal ends the bench."""
    answered = 0
    while answered < count:
        answers = await reader.read(READ_BYTES)
        if not answers or b'"ok":false' in answers:
            raise SystemExit(f"error: a say was refused or not answered: {answers[:200]!r}")
        answered += answers.count(b"\n")


async def _until_read(
    args: argparse.Namespace, said: SaidLines, readers: list[Follower], what: str
) -> float:
    """Wait until these have printed all that was said; give the seconds that it took."""
    began_s = time.perf_counter()
    first = min(follower.messages for follower in readers)
    while (least := min(follower.messages for follower in readers)) < said.count:
        if time.perf_counter() - began_s > args.limit:
            lacking = said.count - least
            raise SystemExit(f"error: {what}: {lacking} were missing in {args.limit:.0f} s")
        harness.progress(what, least - first, said.count - first)
        await asyncio.sleep(LOOK_S)
    harness.progress(what)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    harness.run_bench(__doc__, OPTIONS, harness.on_cluster(_measure))
