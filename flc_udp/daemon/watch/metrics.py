"""The node's figures for Prometheus: read when they are asked for, from counters that are there.

Rules. Nothing here is called a message; to be scraped costs what one `flc status` costs. Names are
for ever: tests/daemon/watch/test_metrics.py holds the list, and one that goes is a change for
users. A label has few values, known from the source: a reason, a queue, a state, never a room or a
node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from flc_udp import __version__
from flc_udp.core.facts import Facts
from flc_udp.core.liveness.health import Change
from flc_udp.daemon.control.server import Control
from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.hooks import Hooks
from flc_udp.daemon.hooks.shell import OUTCOMES
from flc_udp.daemon.watch.clients import clients_of
from flc_udp.daemon.watch.peers import peer_sums
from flc_udp.daemon.watch.status import Status, members_by_state
from flc_udp.daemon.watch.timings import Histogram
from flc_udp.daemon.watch.web import Web
from flc_udp.model.clocks import STAMP_WALL_SHIFT
from flc_udp.model.errors import StoreFailed
from flc_udp.store.directory import DataDirectory
from flc_udp.store.log import Reader
from flc_udp.waist.node import Node

Gauges = tuple[tuple[str, str, Callable[[Facts], float]], ...]

COUNTS = {
    "datagrams received": ("datagrams_received", "Datagrams taken from the socket and looked at."),
    "bytes received": ("received_bytes", "Bytes of these, seals included."),
    "datagrams sent": ("datagrams_sent", "Datagrams given to the socket."),
    "bytes sent": ("sent_bytes", "Bytes of these, seals included."),
    "commits": ("commits", "Transactions that put messages on this disk."),
    "failed commits": ("failed_commits", "Transactions that did not, and were undone."),
    "messages committed": ("messages_committed", "Messages these put there, own and others'."),
    "messages replayed": ("messages_replayed", "Messages read from the log for nodes that pull."),
    "messages pruned": ("messages_pruned", "Messages that retention let go."),
    "bases taken": ("bases_taken", "Times this node took another's floor for its own."),
    "stalls": ("stalls", "Turns that came later than stall_ms after they were due."),
}
"""What the Node counts, by its own words, and what each is called here."""

GAUGES: Gauges = (
    (
        "local_health_score",
        "How little this node trusts its own view of others: 0 is well.",
        lambda facts: facts.health.score,
    ),
    (
        "local_health_score_max",
        "The worst local health there can be; half of it is unhealthy.",
        lambda facts: facts.health.score_max,
    ),
    (
        "catching_up",
        "1 while so much is missing that nobody should be sent here to read.",
        lambda facts: facts.catching_up,
    ),
    ("leaving", "1 once this node was told to leave.", lambda facts: facts.is_leaving),
    (
        "messages",
        "Messages this node durably knows, those it has pruned included.",
        lambda facts: facts.messages,
    ),
    ("logs", "Logs: runs of nodes that posted.", lambda facts: facts.logs),
    ("rooms", "Rooms that anything was said in.", lambda facts: facts.rooms),
    (
        "floor_timestamp_seconds",
        "Everything said since then is kept, by authors' clocks; 0 where nothing was pruned.",
        lambda facts: (facts.floor >> STAMP_WALL_SHIFT) / 1_000,
    ),
    (
        "holdback_bytes",
        "Messages that came before their causes, in memory.",
        lambda facts: facts.repair.holdback_bytes,
    ),
    (
        "pieces_bytes",
        "Parts of large messages that are not whole yet, in memory.",
        lambda facts: facts.repair.pieces_bytes,
    ),
)
"""One number each, which the node has at hand."""


@dataclass(frozen=True, slots=True)
class NodeCollector(Collector):
    """All figures of one node, at the moment they are asked for."""

    status: Status
    ground: LoopGround
    directory: DataDirectory
    reader: Reader
    control: Control
    hooks: Hooks
    web: Web

    def collect(self) -> Iterator[Metric]:
        """Every family, in a fixed order."""
        node = self.ground.node
        facts = node.facts()
        yield _labelled_gauge("build_info", "1, with the version.", "version", {__version__: 1})
        yield _gauge("uptime_seconds", "Since this daemon started.", self.status.uptime_s)
        yield _gauge("healthy", "1 if `flc status` says so.", not self.status.reasons())
        ring = "Keys that datagrams are opened with: above 1 a change of keys is under way."
        yield _gauge("keys", ring, len(self.status.keys.ring.keys))
        for name, what, read in GAUGES:
            yield _gauge(name, what, read(facts))
        writable = "0 while commits fail: posts are refused and it is tried again."
        yield _gauge("log_writable", writable, node.failing is None)
        for counted, (name, what) in COUNTS.items():
            yield CounterMetricFamily(f"flc_{name}", what, value=node.counts[counted])
        yield from self._by_label(node, facts)
        yield from self._clients()
        yield from self._peers(facts)
        yield from self._hooks()
        yield from self._timings()
        yield from self._kernel()
        yield from self._directory_figures()

    def _by_label(self, node: Node, facts: Facts) -> Iterator[Metric]:
        members = members_by_state(facts)
        yield _labelled_gauge("members", "Members known, this node included.", "state", members)
        queued = {**node.queued(), "waiting_for_others": node.waits}
        what = "What waits: datagrams, posts, messages, pulls, replays, or says for others' disks."
        yield _labelled_gauge("queue_length", what, "queue", queued)
        drops = CounterMetricFamily(
            "flc_drops", "What was not taken or not sent, all told.", labels=["reason"]
        )
        for reason, count in sorted(self.status.drops().items()):
            drops.add_metric([reason], count)
        yield drops
        changes = CounterMetricFamily(
            "flc_local_health_changes",
            "What spoke for and against this node's view of others.",
            labels=["change"],
        )
        for change in Change:
            changes.add_metric([change], facts.health.counts.get(change, 0))
        yield changes

    def _clients(self) -> Iterator[Metric]:
        clients = clients_of(self.control, self.ground.node)
        for name, what, value in (
            ("control_connections", "Clients of the control socket.", clients.connections),
            (
                "control_connections_blocked",
                "Clients that do not read what they asked for.",
                clients.blocked,
            ),
            (
                "control_connections_paused",
                "Clients that are not read from until what they said is taken, or what they asked.",
                clients.paused,
            ),
            ("control_unread_bytes", "In memory, for clients to take.", clients.unread_bytes),
            ("followers", "Rooms that are followed, over all clients.", clients.follows),
            (
                "followers_lagging",
                "Followers that have not seen all: they read on from the log.",
                clients.lagging,
            ),
            (
                "follower_lag_messages_max",
                "Messages that the furthest of them is behind, of all rooms.",
                clients.lag_max,
            ),
            ("web_connections", "Connections to these pages.", self.web.connections),
        ):
            yield _gauge(name, what, value)
        yield CounterMetricFamily(
            "flc_control_connections_turned_away",
            "Clients that were one too many.",
            value=clients.turned_away,
        )
        yield CounterMetricFamily(
            "flc_web_connections_pushed_out",
            "Connections to these pages that gave way to newer ones.",
            value=self.web.pushed_out,
        )

    def _peers(self, facts: Facts) -> Iterator[Metric]:
        """Sums over living members, never one of them: there may be a thousand."""
        figures = peer_sums(facts)
        for name, what, value in (
            (
                "peer_lag_messages_max",
                "Messages of this run that the member furthest behind has not said to hold.",
                figures.lag_messages_max,
            ),
            ("peers_lagging", "Members of which that is not 0.", figures.lagging),
            (
                "peers_behind",
                "Members that do not hold what this node had said when they spoke before.",
                figures.behind,
            ),
            ("peer_behind_seconds_max", "For how long, the longest.", figures.behind_s_max),
            ("peers_catching_up", "Members that say they are.", figures.catching_up),
            (
                "peers_roots_differ",
                "Members whose root was another when last told: usual while much is said.",
                figures.roots_differ,
            ),
            ("push_in_flight_bytes", "Pushed and not answered yet.", figures.in_flight_bytes),
            (
                "push_windows_full",
                "Members that had no room of late: they are told what there is, and pull.",
                figures.windows_full,
            ),
        ):
            yield _gauge(name, what, value)

    def _hooks(self) -> Iterator[Metric]:
        """By hook; none where none has a command."""
        running, waiting, ended, passed_over = self._hook_families()
        for name, figures in self.hooks.figures().items():
            running.add_metric([name], figures.running)
            waiting.add_metric([name], figures.waiting)
            passed_over.add_metric([name], figures.passed_over)
            for how in OUTCOMES:
                ended.add_metric([name, how], figures.ended[how])
        yield from (running, waiting, ended, passed_over)

    def _hook_families(
        self,
    ) -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily, CounterMetricFamily]:
        hook = ["hook"]
        return (
            GaugeMetricFamily("flc_hooks_running", "Commands that run now.", labels=hook),
            GaugeMetricFamily(
                "flc_hooks_waiting", "Messages or members no command has run for.", labels=hook
            ),
            CounterMetricFamily(
                "flc_hook_runs", "Commands that ended, by how.", labels=["hook", "outcome"]
            ),
            CounterMetricFamily(
                "flc_hook_passed_over",
                "Messages that retention took first, changes that a newer one followed.",
                labels=hook,
            ),
        )

    def _timings(self) -> Iterator[Metric]:
        timings = self.ground.timings
        yield _histogram("commit_seconds", "From handing over a commit to its end.", timings.commit)
        yield _histogram(
            "message_age_seconds",
            "From its author's clock to its being durable here, of at most one message of others "
            "a commit, while not catching up. How far apart two clocks are is in it.",
            timings.age,
        )
        yield CounterMetricFamily(
            "flc_message_age_negative",
            "Of these, messages from the future, noted as of age 0: an author's clock is ahead.",
            value=timings.from_the_future,
        )

    def _kernel(self) -> Iterator[Metric]:
        buffer = self.ground.kernel_buffer()
        if buffer is None:
            return
        yield _gauge("receive_buffer_size_bytes", "What the system granted.", buffer.size)
        if buffer.used is not None:
            yield _gauge("receive_buffer_used_bytes", "Datagrams not yet taken.", buffer.used)
        if buffer.drops is not None:
            yield CounterMetricFamily(
                "flc_receive_buffer_drops",
                "Datagrams the system dropped before this node saw them, mostly for want of room.",
                value=buffer.drops,
            )

    def _directory_figures(self) -> list[Metric]:
        """What only the disk can tell; while it cannot, that is the one figure there is."""
        readable = "1 if the data directory could be read just now."
        try:
            return [_gauge("data_readable", readable, 1), *self._disk()]
        except (OSError, StoreFailed):
            return [_gauge("data_readable", readable, 0)]

    def _disk(self) -> Iterator[Metric]:
        sizes = self.directory.file_bytes()
        yield _gauge("messages_kept", "Messages in the log now.", self.reader.counts()[0])
        yield _labelled_gauge("database_bytes", "Sizes of the log's files.", "file", sizes)
        yield _gauge(
            "database_used_bytes", "The database without its free pages.", self.reader.used_bytes()
        )
        once = self.reader.once_clients()
        yield _gauge("once_clients", "Clients whose numbered says are remembered.", once)
        free = self.directory.free_bytes()
        yield _gauge("disk_free_bytes", "Free where the log is, for this user.", free)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"flc_{name}", what, value=float(value))


def _labelled_gauge(name: str, what: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"flc_{name}", what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, what: str, histogram: Histogram) -> Metric:
    bounds = (*map(str, histogram.bounds), "+Inf")
    buckets = list(zip(bounds, histogram.cumulative(), strict=True))
    return HistogramMetricFamily(f"flc_{name}", what, buckets=buckets, sum_value=histogram.total)
