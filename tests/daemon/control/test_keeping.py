"""The control socket's name while the node runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.cluster import Node
from tests.daemon.process import until


def replaced(path: Path) -> None:
    """Somebody put a file there."""
    path.unlink()
    path.write_text("not a socket")


@pytest.mark.parametrize("harm", [Path.unlink, replaced])
async def test_a_socket_that_is_deleted_is_made_again(
    ann: Node, harm: Callable[[Path], None]
) -> None:
    """Clients reach the node without a restart; those that are here stay, and it is told."""
    harm(ann.data / "control.sock")

    async def reached() -> bool:
        return (await ann.flc("status")).code == 0

    await until("it is reached again", reached)
    (notice,) = ann.logged("socket_made_again")
    assert notice["data"] == str(ann.data)
    assert (await ann.ask("status"))["failures"] == {}
