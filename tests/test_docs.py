"""The pages name what there is: events, reasons, metrics, settings, commands, files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from flc_udp.cli.main import COMMANDS
from flc_udp.config import SETTINGS
from flc_udp.core import notices as core_notices
from flc_udp.daemon import notices as daemon_notices
from flc_udp.daemon.hooks import hooks
from flc_udp.daemon.watch.reasons import Code
from flc_udp.model.errors import Drop
from flc_udp.model.notices import Notice
from flc_udp.waist import notices as waist_notices
from tests.daemon.watch.test_metrics import COUNTERS, GAUGES, HISTOGRAMS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flc_udp"
DOCS = PACKAGE / "docs"
OPERATIONS = (DOCS / "operations.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def notices() -> list[type[Notice]]:
    """Every class of facts that is told as such: those that no other is derived from."""
    modules = (core_notices, waist_notices, daemon_notices)
    known = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    known = {notice for notice in known if issubclass(notice, Notice) and notice is not Notice}
    bases = {base for notice in known for base in notice.__bases__}
    return sorted(known - bases, key=lambda notice: notice.__name__)


def fields_of(notice: type[Notice]) -> tuple[set[str], set[str]]:
    """The fields that a line of the log always has, and those that it may have."""
    sometimes = {field.name for field in dataclasses.fields(notice) if has_default(field)}
    return {field.name for field in dataclasses.fields(notice)} - sometimes, sometimes


def has_default(field: dataclasses.Field[object]) -> bool:
    """Whether it may be left out."""
    return field.default is not dataclasses.MISSING


def listed_events() -> dict[str, tuple[str, frozenset[str]]]:
    """{event: (level, fields)} as the page lists them."""
    table = OPERATIONS.partition("<!-- events:")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]
    return {
        name.strip("`"): (level, frozenset(re.findall(r"`(\w+)`", fields)))
        for name, level, fields, _ in rows
    }


def test_every_event_is_listed_with_its_level_and_fields() -> None:
    """Whoever reads the log finds every line explained, and no line that there is not."""
    found, listed = {notice.event(): notice for notice in notices()}, listed_events()

    assert set(found) == set(listed)
    for name, notice in found.items():
        level, fields = listed[name]
        always, sometimes = fields_of(notice)
        assert level == notice.level.value, name
        assert always <= fields <= always | sometimes, name


def test_nothing_is_logged_but_notices() -> None:
    """There is one door to the log, so the list of events is complete."""
    logging = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if re.search(r"get_logger|[lL]ogger\.(debug|info|warning|error)", path.read_text("utf-8"))
    ]

    assert logging == [Path("daemon/stderr.py")]


def test_every_reason_is_explained() -> None:
    """At three in the morning `flc status` says a line, and the page what to do about it."""
    page = OPERATIONS.partition("## What `flc status` says")[2].partition("\n## ")[0]
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    told = [re.sub(r"\{[^}]*\}", "…", code.template) for code in Code]

    # A row may stop where figures begin.
    assert len(told) == len(rows)
    for text in told:
        assert any(text.startswith(row.rstrip("…")) for row in rows), text


def test_every_reason_has_its_advice() -> None:
    """The line below the reason says what to do."""
    assert [code for code in Code if not code.advice] == []


def metric_names() -> set[str]:
    """All names that a query may have; a test of the daemon holds that list."""
    histograms = [f"{name}{end}" for name in HISTOGRAMS.split() for end in ("_bucket", "_count")]
    counters = [f"{name}_total" for name in COUNTERS.split()]
    return {f"flc_{n}" for n in (*counters, *GAUGES.split(), *HISTOGRAMS.split(), *histograms)}


@each_page
def test_every_metric_that_is_named_exists(page: Path) -> None:
    """An alert on a name that is not there never rings."""
    named = set(re.findall(r"\bflc_(?!udp\b)[a-z_]+\b", page.read_text("utf-8")))

    assert named <= metric_names()


def test_every_reason_of_a_drop_that_is_named_exists() -> None:
    """The same for labels, and for those that are called everyday."""
    named = re.findall(r'reason=~?"([^"]+)"', OPERATIONS)
    everyday = OPERATIONS.partition("A few drops are everyday:")[2].partition("\n\n")[0]
    spans = re.findall(r"`([^`]+)`", everyday)

    assert named
    assert spans
    assert {*spans, *(reason for text in named for reason in text.split("|"))} <= set(Drop)


@each_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    """As FLC_…; FLC_PYTHON is that of scripts/env, and hooks are told of what they run for."""
    named = {name.lower() for name in re.findall(r"\bFLC_([A-Z_]+[A-Z])", page.read_text("utf-8"))}
    told = {name.lower() for name in re.findall(r"\bFLC_([A-Z_]+)", hooks.__doc__ or "")}

    assert named - {"python", *told} <= set(SETTINGS)


@each_page
def test_every_command_that_is_named_exists(page: Path) -> None:
    """In a code span or a line of a shell."""
    named = re.findall(r"(?:`|^\s*)flc ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)

    assert set(named) <= set(COMMANDS)


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    """Paths in the checkout, and links within a page."""
    text = page.read_text("utf-8")
    named = set(re.findall(r"`((?:flc_udp|tests|scripts|bench)/[\w./-]+)`", text))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}

    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    assert all(
        (page.parent / link).exists() for link in re.findall(r"\]\((?!#|http)([^)#]+)", text)
    )
