"""The node's log on standard error, as people and machines read it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from flc_udp.config import Settings
from flc_udp.core.notices import MemberAlive
from flc_udp.daemon.stderr import log_to_stderr, tell
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId

NAME = "ann\u202e\u200b\u3164\x9b"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_name_cannot_drive_the_terminal(
    capfd: pytest.CaptureFixture[str], log_format: str
) -> None:
    """Of another node: what is not seen in it is shown; a machine reads it as it is."""
    log_to_stderr(Settings(log_format=log_format))
    tell(MemberAlive(NodeId(bytes(8)), NAME, Address("10.0.0.2", 7352)))
    line = capfd.readouterr().err

    assert all(hidden not in line for hidden in NAME[3:])
    if log_format == "json":
        assert json.loads(line)["member"] == NAME
    else:
        assert "ann\\u202e\\u200b\\u3164\\x9b" in line
