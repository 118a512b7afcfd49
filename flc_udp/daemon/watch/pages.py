"""`/metrics`, `/livez` and `/readyz`: what monitors, supervisors and balancers ask of a node.

    /livez    200 if the loop turns; there is no other answer, so silence is the bad news
    /readyz   200 if the node is healthy and not catching up, else 503 and the reasons, one a line
    /metrics  everything that can queue, be dropped, lag or grow, in Prometheus' text format

Rules. Who is alive is not restarted for being ill: `/livez` looks at nothing. A page is made at
most once in FRESH_S, however many ask, so that no number of scrapers takes the loop from the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from flc_udp.daemon.watch.metrics import NodeCollector
from flc_udp.daemon.watch.status import Status
from flc_udp.daemon.watch.web import Page, Pages

FRESH_S = 0.25


def pages_of(status: Status, collector: NodeCollector) -> Pages:
    """The pages of one node by their paths."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)  # Memory, CPU time and open files, by their usual names.

    def metrics() -> Page:
        return Page(HTTPStatus.OK, generate_latest(registry).decode(), CONTENT_TYPE_PLAIN_0_0_4)

    return {
        "/metrics": _kept_fresh(metrics),
        "/livez": lambda: Page(HTTPStatus.OK, "alive: the loop turns\n"),
        "/readyz": _kept_fresh(lambda: _readyz(status)),
    }


def _readyz(status: Status) -> Page:
    reasons = status.unready()
    if not reasons:
        return Page(HTTPStatus.OK, "ready: healthy, and not catching up\n")
    lines = "".join(f"{' '.join(text.split())}\n" for text in (reason.text for reason in reasons))
    return Page(HTTPStatus.SERVICE_UNAVAILABLE, lines)


def _kept_fresh(make: Callable[[], Page]) -> Callable[[], Page]:
    """The same page for all who ask within FRESH_S."""
    kept: list[tuple[float, Page]] = []

    def page() -> Page:
        now = time.monotonic()
        if not kept or now - kept[0][0] >= FRESH_S:
            kept[:] = [(now, make())]
        return kept[0][1]

    return page
