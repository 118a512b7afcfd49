"""`/metrics`, `/livez` and `/readyz`: what monitors, supervisors and load balancers ask of a node.

    /livez    200 if the loop turns; there is no other answer, so no answer means that it does not
    /readyz   200 if the node is healthy and not catching up, else 503 and the reasons, one a line
    /metrics  everything that can queue, be dropped, lag or grow, in Prometheus' text format

Rules. `/livez` looks at nothing, so that a supervisor does not restart a node that is ill but
alive. A page is made at most once in FRESH_S, however many clients ask, so that scrapers cannot
keep the loop busy.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from flc_udp.daemon.control.server import Control
from flc_udp.daemon.hooks.hooks import Hooks
from flc_udp.daemon.watch.metrics import NodeCollector
from flc_udp.daemon.watch.status import Status
from flc_udp.daemon.watch.web import Page, Pages, Web

FRESH_S = 0.25


def pages_of(status: Status, control: Control, hooks: Hooks, web: Web) -> Pages:
    """The pages of one node by their paths."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(status, control, hooks, web))
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
    """Make a page, and answer with it again for FRESH_S."""
    kept: list[tuple[float, Page]] = []

    def page() -> Page:
        now = time.monotonic()
        if not kept or now - kept[0][0] >= FRESH_S:
            kept[:] = [(now, make())]
        return kept[0][1]

    return page
