"""The page of the protocol says what the code says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from flc_udp.wire.packets import KIND_OF, TITLE_OF

SCRIPT = Path(__file__).parents[2] / "scripts" / "protocol_page.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("protocol_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_say(generator: ModuleType) -> None:
    """After a change of a packet: scripts/protocol_page.py."""
    assert generator.PAGE.read_text("utf-8") == generator.page()


def test_every_packet_is_on_it_with_every_field(generator: ModuleType) -> None:
    """By its number, with the fields in their order."""
    text = generator.page()

    for packet, kind in KIND_OF.items():
        heading = f"### {kind} {TITLE_OF[packet]}\n"
        section = text.partition(heading)[2].partition("\n### ")[0]
        positions = [section.find(f"`{name}:") for name in packet._fields]
        assert section, heading
        assert positions == sorted(positions)
        assert -1 not in positions
