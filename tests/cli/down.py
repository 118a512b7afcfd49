"""The data directory of a node that is down."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from flc_udp.model.block import Block
from flc_udp.store.log import Log


def directory_of(home: Path, said: Sequence[Block]) -> Path:
    """`home/data`, with a log that holds these."""
    data = home / "data"
    data.mkdir()
    with closing(Log.open(data / "flc.db")) as log:
        log.append(said)
    return data
