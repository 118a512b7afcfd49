"""What the image's HEALTHCHECK asks: only what a restart would mend."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until

CONTAINERFILE = Path(__file__).parents[3] / "scripts" / "Containerfile"


def healthcheck() -> list[str]:
    """The words of the command, without `flc`."""
    found = re.search(r"^HEALTHCHECK.* CMD (\[.*\])$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert found
    flc, *words = json.loads(found[1])
    assert flc == "flc"
    return [str(word) for word in words]


async def test_a_node_that_works_passes_however_ill_it_is(cluster: Cluster) -> None:
    """A dead peer makes it unhealthy, and a restart of this one does not cure that."""
    ann, bob = await cluster.start(2, "--profile", "local")
    bob.kill9()

    async def unhealthy() -> bool:
        return not (await ann.ask("status"))["healthy"]

    await until("the other is dead, and this one says so", unhealthy)
    assert (await ann.flc("status")).code == 1

    assert (await ann.flc(*healthcheck())).code == 0


async def test_a_node_whose_loop_stands_still_fails(ann: Node) -> None:
    """And one that is not there."""
    ann.stop()
    assert (await ann.flc(*healthcheck())).code != 0
    ann.cont()
    ann.kill9()
    assert (await ann.flc(*healthcheck())).code != 0
