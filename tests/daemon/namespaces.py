"""Hosts of our own on this machine: network namespaces on one bridge, and cuts between them.

    with Namespaces(("ann", "ben", "cho")) as hosts:
        ...                         # run (*hosts.command("ann"), …), listening on hosts.host("ann")
        hosts.part(("ann",), ("ben", "cho"))
        hosts.heal()

Rules. The bridge has a namespace of its own, so nothing of this is seen outside, two runs never
meet, and addresses need not be free anywhere. Names carry this process's id. Whatever was made is
removed again, also where making the rest of it failed; processes inside are their starter's to end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from itertools import permutations, product
from types import TracebackType
from typing import Self

IP = shutil.which("ip") or ""

HUB = "hub"
"""The namespace of the bridge."""

NETWORK = "10.99.0."

ANY_WAY_BACK = """
for knob in /proc/sys/net/ipv4/conf/*/rp_filter; do
  read -r found <"$knob"
  [ "$found" = 0 ] || echo 0 >"$knob"
done
"""
"""So that a host still hears whom it has no route to: else a one-way cut would cut both ways."""


@cache
def unavailable() -> str:
    """Why this process can make no namespaces, or nothing."""
    if not IP:
        return "ip (iproute2) is not installed"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    try:
        with Namespaces(("trial",)):
            return ""
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.decode().strip()}"


class Namespaces:
    """One namespace a name, each with an address that all others reach."""

    def __init__(self, names: Sequence[str]) -> None:
        self._hosts = {name: f"{NETWORK}{number}" for number, name in enumerate(names, 1)}
        self._cuts: dict[tuple[str, str], None] = {}
        self._made = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as made:
            self._make_hub(made)
            for name in self._hosts:
                self._make_host(name, made)
            self._made = made.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._made.close()

    def host(self, name: str) -> str:
        """Its address."""
        return self._hosts[name]

    def command(self, name: str) -> tuple[str, ...]:
        """What a command is preceded by to run there; it keeps its process id."""
        return (IP, "netns", "exec", self._namespace(name))

    # --- Cuts ---------------------------------------------------------------------------------

    def cut(self, sender: str, to: str) -> None:
        """Nothing of `sender` reaches `to` any more; the other direction stays."""
        self._route("add", sender, to)
        self._cuts[sender, to] = None

    def part(self, *islands: Sequence[str]) -> None:
        """Nothing goes from one of these islands to another."""
        for one, other in permutations(islands, 2):
            for sender, to in product(one, other):
                self.cut(sender, to)

    def heal(self) -> None:
        """No cuts."""
        while self._cuts:
            (sender, to), _ = self._cuts.popitem()
            self._route("del", sender, to)

    def _route(self, verb: str, sender: str, to: str) -> None:
        self._inside(sender, "route", verb, "blackhole", f"{self.host(to)}/32")

    # --- Making -------------------------------------------------------------------------------

    def _make_hub(self, made: ExitStack) -> None:
        self._make_namespace(HUB, made)
        self._inside(HUB, "link", "add", "bridge", "type", "bridge")
        self._inside(HUB, "link", "set", "bridge", "up")

    def _make_host(self, name: str, made: ExitStack) -> None:
        namespace = self._make_namespace(name, made)
        port = f"to-{name}"
        pair = ("type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._inside(HUB, "link", "add", port, *pair)
        self._inside(HUB, "link", "set", port, "master", "bridge", "up")
        self._inside(name, "address", "add", f"{self.host(name)}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            self._inside(name, "link", "set", link, "up")
        _run(*self.command(name), "sh", "-c", ANY_WAY_BACK)

    def _make_namespace(self, name: str, made: ExitStack) -> str:
        namespace = self._namespace(name)
        _run(IP, "netns", "add", namespace)
        made.callback(_run, IP, "netns", "delete", namespace)
        return namespace

    def _namespace(self, name: str) -> str:
        return f"flc-{os.getpid()}-{name}"

    def _inside(self, name: str, *words: str) -> None:
        _run(IP, "-netns", self._namespace(name), *words)


def _run(*words: str) -> None:
    """Run it to its end; what it complains of is in the error."""
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
