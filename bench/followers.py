"""What followers cost a daemon, and what one costs that is stopped while much is said.

    python bench/followers.py [--messages 1000000] [--followers 10] [--nodes 1] [--json]

Real daemons on loopback, and real `flc nc -d` processes that follow one room of the first node.
Somebody says messages of 100 bytes on the last one, over one connection, as fast as they are taken.
First a part of them with all followers reading, so that the daemon's memory is what it is under
this load. Then one follower is stopped by SIGSTOP while all the others go on, and after the last
message it is let go by SIGCONT. Each follower's output has to be, byte for byte, what was said: no
gap, no double, no other order. Memory is the followed daemon's, in MB (proc(5)), looked at several
times a second.

The plan is that a follower is a few numbers however far behind it is, so the growth with one
stopped is what the growth with none is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from catchup import machine, table
from cluster import Cluster, progress, until

ROOM = "ops"
BODY_BYTES = 100
LINES_A_WRITE = 256
READ_BYTES = 1 << 20
LOOK_S = 0.2


def body(number: int) -> str:
    """What is said: each is another, so that a gap and a double are seen."""
    return f"{number:0{BODY_BYTES}d}"


class Said:
    """All that is said, as a follower has to print it: 101 bytes a message."""

    def __init__(self) -> None:
        self.lines = b""

    def grow(self, count: int) -> range:
        """So many more; their numbers."""
        first = len(self.lines) // (BODY_BYTES + 1)
        numbers = range(first, first + count)
        self.lines += b"".join(f"{body(number)}\n".encode() for number in numbers)
        return numbers


class Follower:
    """One `flc nc -d`, whose output is compared as it comes and not kept."""

    def __init__(self, data: Path, said: Said) -> None:
        self._data = data
        self._said = said
        self._read = 0
        self.process: asyncio.subprocess.Process
        self.reading: asyncio.Task[None]

    async def start(self) -> None:
        """From what is new on."""
        command = [sys.executable, "-m", "flc_udp", "nc", "-d", ROOM, "--data", str(self._data)]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
        self.reading = asyncio.create_task(self._compare())

    @property
    def messages(self) -> int:
        """How many it has printed."""
        return self._read // (BODY_BYTES + 1)

    async def _compare(self) -> None:
        assert self.process.stdout is not None
        while printed := await self.process.stdout.read(READ_BYTES):
            end = self._read + len(printed)
            if printed != self._said.lines[self._read : end]:
                at = self._read // (BODY_BYTES + 1)
                raise SystemExit(f"error: after message {at} a follower printed another than said")
            self._read = end

    async def end(self) -> None:
        """By its id; a stopped one too."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(self.reading, return_exceptions=True)


class Memory:
    """The most that a process has had since the last look, and what it has now; in MB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.most = 0.0

    def now(self) -> float:
        """Resident; the peak is taken along."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        words = dict(line.split(":", 1) for line in lines)
        found = round(int(words["VmRSS"].split()[0]) * 1024 / 1e6, 1)
        self.most = max(self.most, found)
        return found

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """From here on `most` is another one."""
        self.most = 0.0
        self.now()
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            self.now()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.now()


def main() -> int:
    """Measure, and print a table or JSON."""
    args = _arguments()
    result = asyncio.run(_measure(args))
    print(json.dumps(result) if args.json else table(result))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="followers of one daemon, one of them stopped")
    parser.add_argument("--messages", type=int, default=1_000_000, help="said with one stopped")
    parser.add_argument("--before", type=int, default=200_000, help="said with all reading")
    parser.add_argument("--followers", type=int, default=10, help="flc nc -d processes")
    parser.add_argument("--nodes", type=int, default=1, help="daemons; the last one is told")
    parser.add_argument("--limit", type=float, default=600, help="seconds a phase may take")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="flc-bench-") as base:
        async with Cluster(Path(base), args.nodes) as cluster:
            said = Said()
            followers = [Follower(Path(base, "node0"), said) for _ in range(args.followers)]
            try:
                return await _phases(args, cluster, said, followers)
            finally:
                for follower in followers:
                    await follower.end()


async def _phases(
    args: argparse.Namespace, cluster: Cluster, said: Said, followers: list[Follower]
) -> dict[str, Any]:
    for follower in followers:
        await follower.start()
    await until(lambda: _all_follow(cluster, args.followers), "not all follow")
    memory = Memory(cluster.processes[0].pid)
    stopped, others = followers[-1], followers[:-1]
    begin = memory.now()
    async with memory.watched():
        rate_all = await _say(args, cluster, said, args.before, followers)
    before, most_before = memory.now(), memory.most
    stopped.process.send_signal(signal.SIGSTOP)
    cpu = cluster.cpu_s()[0]
    async with memory.watched():
        rate_others = await _say(args, cluster, said, args.messages, others)
    cpu = cluster.cpu_s()[0] - cpu
    missed, after, most = args.before + args.messages - stopped.messages, memory.now(), memory.most
    stopped.process.send_signal(signal.SIGCONT)
    async with memory.watched():
        resumed_s = await _until_read(args, said, [stopped], "the stopped one reads on")
    await asyncio.sleep(1)  # Nothing more may come.
    for follower in followers:
        if follower.reading.done():
            follower.reading.result()
        if follower.messages != args.before + args.messages:
            raise SystemExit("error: a follower printed more or less than was said")
    return {
        "messages_per_s_all_follow": round(rate_all),
        "messages_per_s_one_stopped": round(rate_others),
        "daemon_us_a_message": round(1e6 * cpu / args.messages, 1),
        "missed_by_the_stopped": missed,
        "resumed_s": round(resumed_s, 2),
        "resumed_messages_per_s": round(missed / resumed_s),
        "memory_mb_started": begin,
        "memory_mb_all_follow_most": most_before,
        "memory_mb_before_the_stop": before,
        "memory_mb_stopped_most": most,
        "memory_mb_stopped_at_the_end": after,
        "memory_mb_resuming_most": memory.most,
        "memory_mb_resumed": memory.now(),
        "messages": args.messages,
        "followers": args.followers,
        "nodes": args.nodes,
        "machine": machine(),
    }


async def _all_follow(cluster: Cluster, count: int) -> bool:
    return bool((await cluster.clients[0].status())["clients"]["follows"] == count)


async def _say(
    args: argparse.Namespace,
    cluster: Cluster,
    said: Said,
    count: int,
    readers: list[Follower],
) -> float:
    """Say so many and wait until these have printed them all: messages a second."""
    numbers = said.grow(count)
    began = time.perf_counter()
    saying = asyncio.create_task(_write(cluster.clients[-1].path, numbers))
    took = await _until_read(args, said, readers, f"{count:,} messages") if readers else 0.0
    await saying
    return count / (took or time.perf_counter() - began)


async def _write(path: Path, numbers: range) -> None:
    """In order, over one connection; a socket that takes no more slows it."""
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
    """Read so many answers; a refusal ends it."""
    answered = 0
    while answered < count:
        answers = await reader.read(READ_BYTES)
        if not answers or b'"ok":false' in answers:
            raise SystemExit(f"error: a say was refused or not answered: {answers[:200]!r}")
        answered += answers.count(b"\n")


async def _until_read(
    args: argparse.Namespace, said: Said, readers: list[Follower], what: str
) -> float:
    """Wait until these have printed all that was said; the seconds it took."""
    began, total = time.perf_counter(), len(said.lines) // (BODY_BYTES + 1)
    first = min(follower.messages for follower in readers)
    while (least := min(follower.messages for follower in readers)) < total:
        for follower in readers:
            if follower.reading.done():
                follower.reading.result()
                raise SystemExit("error: a follower ended")
        if time.perf_counter() - began > args.limit:
            raise SystemExit(f"error: {what}: {total - least} were missing in {args.limit:.0f} s")
        progress(what, least - first, total - first)
        await asyncio.sleep(0.02)
    progress(what, 1, 1)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
