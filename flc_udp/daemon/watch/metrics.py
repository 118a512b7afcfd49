"""The node's figures for Prometheus. They are read when somebody asks, from counters that exist.

Rules. Nothing here costs anything for each message, and one scrape costs as much as one
`flc status`. A name never changes, because people's alarms use it: tests/daemon/watch/
test_metrics.py holds the list. A label has few values, and the source knows them all: a reason, a
queue, a state, but never a room or a node.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

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
from flc_udp.daemon.hooks.hooks import Hooks
from flc_udp.daemon.hooks.shell import How
from flc_udp.daemon.stderr import LINES
from flc_udp.daemon.watch.peers import peer_sums
from flc_udp.daemon.watch.status import Status, members_by_state
from flc_udp.daemon.watch.timings import Histogram
from flc_udp.daemon.watch.web import Web
from flc_udp.model.clocks import wall_of
from flc_udp.model.errors import StoreFailed

Label = TypeVar("Label", bound=str | tuple[str, ...])
"""The value of a label, or the values of several."""

GAUGES = {
    "uptime_seconds": "Since this daemon started.",
    "healthy": "1 if `flc status` says so.",
    "keys": "Keys that open datagrams. More than 1 while the cluster changes its key.",
    "sessions": "Runs of nodes and programs whose keys are remembered, to open their datagrams.",
    "local_health_score": "How little this node trusts its own view of others. 0 is well.",
    "local_health_score_max": "The worst local health there can be. Half of it is unhealthy.",
    "catching_up": "1 while so much is missing that nobody should be sent here to read.",
    "flood_datagrams_per_second": "What comes from nobody. While the kernel drops it: an estimate.",
    "flood_filter": "1 while the kernel is asked to drop most of that.",
    "leaving": "1 once this node was told to leave.",
    "messages": "Messages that this node durably knows, with those it has pruned.",
    "logs": "Logs: runs of nodes that posted.",
    "rooms": "Rooms that anything was said in.",
    "floor_timestamp_seconds": "Everything said since then is kept. 0 if nothing was pruned.",
    "holdback_bytes": "Messages in memory that came before their causes.",
    "pieces_bytes": "Parts in memory of large messages that are not complete yet.",
    "blocks_rotten": "Blocks that have changed on the disk, and are fetched anew.",
    "log_writable": "0 while commits fail: posts are refused, and the node tries again.",
    "control_connections": "Clients of the control socket.",
    "control_connections_blocked": "Clients that do not read what they asked for.",
    "control_connections_paused": "Clients that wait until the node has done what they asked.",
    "control_lists": "Lists that clients asked for and that have not ended.",
    "control_reads_waiting": "Lists and follows that wait for their turn to read from the log.",
    "control_unread_bytes": "Bytes in memory that clients have not read yet.",
    "control_held_bytes": "Bytes in memory of requests that are not whole or not answered yet.",
    "followers": "Rooms that are followed, over all clients.",
    "followers_lagging": "Followers that have not seen everything. They read on from the log.",
    "follower_lag_messages_max": "Messages, of all rooms, that the furthest of them is behind.",
    "web_connections": "Connections to these pages.",
    "peer_lag_messages_max": "Messages of this run that the furthest member has not confirmed.",
    "peers_lagging": "Members for which that is not 0.",
    "peers_behind": "Members that do not hold what this node had said when they spoke before.",
    "peer_behind_seconds_max": "How long the longest of them has been behind.",
    "peers_catching_up": "Members that say they are.",
    "peers_roots_differ": "Members with another root than this node's. Usual under load.",
    "push_in_flight_bytes": "Bytes that were pushed and not answered yet.",
    "push_windows_full": "Members for which too much waited of late. They pull instead.",
}
"""{name: help} of the figures that rise and fall and have no label."""

COUNTS = {
    "datagrams received": ("datagrams_received", "Datagrams taken from the socket and looked at."),
    "bytes received": ("received_bytes", "Bytes of these, with their seals."),
    "datagrams sent": ("datagrams_sent", "Datagrams given to the socket."),
    "bytes sent": ("sent_bytes", "Bytes of these, with their seals."),
    "commits": ("commits", "Transactions that put messages on this disk."),
    "failed commits": ("failed_commits", "Transactions that failed and were undone."),
    "messages committed": ("messages_committed", "Messages that these put there, from all nodes."),
    "blocks committed": ("blocks_committed", "Blocks that these messages came in."),
    "blocks replayed": ("blocks_replayed", "Blocks read from the log for nodes that pull."),
    "blocks healed": ("blocks_healed", "Blocks that had changed on the disk and were mended."),
    "messages pruned": ("messages_pruned", "Messages that retention removed."),
    "bases taken": ("bases_taken", "Times this node took another node's floor as its own."),
    "stalls": ("stalls", "Turns that came later than stall_ms after they were due."),
}
"""{what the Node counts: (name, help)}."""


@dataclass(frozen=True, slots=True)
class NodeCollector(Collector):
    """All figures of one node, at the moment when somebody asks for them."""

    status: Status
    control: Control
    hooks: Hooks
    web: Web

    def collect(self) -> Iterator[Metric]:
        """Every family, in a fixed order."""
        node, clients = self.status.ground.node, self.control.figures()
        facts = node.facts()
        for name, value in self._gauges(facts, clients).items():
            yield _gauge(name, GAUGES[name], value)
        yield from self._counters(clients)
        yield from self._labelled_gauges(facts)
        yield from self._labelled_counters(facts)
        yield from self._histograms()
        yield from self._kernel()
        yield from self._directory_figures()

    def _gauges(self, facts: Facts, clients: Mapping[str, int]) -> dict[str, float]:
        status, peers, node = self.status, peer_sums(facts), self.status.ground.node
        return {
            "uptime_seconds": status.uptime_s,
            "healthy": not status.reasons(facts),
            "keys": len(status.keys.ring.keys),
            "sessions": node.sessions,
            "local_health_score": facts.health.score,
            "local_health_score_max": facts.health.score_max,
            "catching_up": facts.catching_up,
            "flood_datagrams_per_second": node.flood.a_second,
            "flood_filter": status.ground.datagrams.is_filtered,
            "leaving": facts.is_leaving,
            "messages": facts.messages,
            "logs": facts.logs,
            "rooms": facts.rooms,
            "floor_timestamp_seconds": wall_of(facts.floor) / 1_000,
            "holdback_bytes": facts.repair.holdback_bytes,
            "pieces_bytes": facts.repair.pieces_bytes,
            "blocks_rotten": len(facts.repair.rotten),
            "log_writable": node.failing is None,
            "control_connections": clients["connections"],
            "control_connections_blocked": clients["blocked"],
            "control_connections_paused": clients["paused"],
            "control_lists": clients["lists"],
            "control_reads_waiting": clients["reads_waiting"],
            "control_unread_bytes": clients["unread_bytes"],
            "control_held_bytes": clients["held_bytes"],
            "followers": clients["follows"],
            "followers_lagging": clients["lagging"],
            "follower_lag_messages_max": clients["lag_max"],
            "web_connections": self.web.connections,
            "peer_lag_messages_max": peers["lag_messages_max"],
            "peers_lagging": peers["lagging"],
            "peers_behind": peers["behind"],
            "peer_behind_seconds_max": peers["behind_s_max"],
            "peers_catching_up": peers["catching_up"],
            "peers_roots_differ": peers["roots_differ"],
            "push_in_flight_bytes": peers["in_flight_bytes"],
            "push_windows_full": peers["windows_full"],
        }

    def _counters(self, clients: Mapping[str, int]) -> Iterator[Metric]:
        ground = self.status.ground
        for counted, (name, what) in COUNTS.items():
            yield _counter(name, what, ground.node.counts[counted])
        what = "Clients that were refused because there were too many."
        yield _counter("control_connections_turned_away", what, clients["turned_away"])
        what = "Requests that were refused because too many bytes of others were held."
        yield _counter("control_requests_refused", what, clients["held_refused"])
        what = "What failed alone, and nobody expected it to: `flc status --json` tells the kinds."
        yield _counter("failures", what, ground.failures.counts.total())
        what = "Lines of this node's log that were left out because there were too many."
        yield _counter("log_lines_left_out", what, LINES.left_out)
        what = "Connections to these pages that made room for newer ones."
        yield _counter("web_connections_pushed_out", what, self.web.pushed_out)
        what = "Messages from the future, counted as of age 0. Their clock is ahead."
        yield _counter("message_age_negative", what, ground.timings.from_the_future)

    def _labelled_gauges(self, facts: Facts) -> Iterator[Metric]:
        node, hooks = self.status.ground.node, self.hooks.used()
        yield _gauge("build_info", "1, with the version.", {__version__: 1}, "version")
        members = members_by_state(facts)
        yield _gauge("members", "Members known, with this node.", members, "state")
        what = "What waits: datagrams, posts, messages, pulls, replays, or says for others' disks."
        waiting = {**node.queued(), "waiting_for_others": len(node.waits)}
        yield _gauge("queue_length", what, waiting, "queue")
        running = {hook.name: hook.running for hook in hooks}
        yield _gauge("hooks_running", "Commands that run now.", running, "hook")
        what = "Messages or members for which no command has run."
        yield _gauge("hooks_waiting", what, {hook.name: hook.waiting for hook in hooks}, "hook")

    def _labelled_counters(self, facts: Facts) -> Iterator[Metric]:
        hooks = self.hooks.used()
        drops = dict(sorted(self.status.drops().items()))
        yield _counter("drops", "What was not taken or not sent, in all.", drops, "reason")
        what = "What spoke for and against this node's view of others."
        changes = {change: facts.health.counts.get(change, 0) for change in Change}
        yield _counter("local_health_changes", what, changes, "change")
        runs = {(hook.name, how): hook.ended[how] for hook in hooks for how in How}
        yield _counter("hook_runs", "Commands that ended, by how.", runs, "hook", "outcome")
        what = "Bytes that commands wrote and that were not passed on to the log."
        yield _counter("hook_output_dropped_bytes", what, self.hooks.dropped_bytes if hooks else {})
        what = "Messages that retention removed first, and changes that a later one replaced."
        passed_over = {hook.name: hook.news.passed_over for hook in hooks}
        yield _counter("hook_passed_over", what, passed_over, "hook")

    def _histograms(self) -> Iterator[Metric]:
        timings = self.status.ground.timings
        yield _histogram("commit_seconds", "From handing over a commit to its end.", timings.commit)
        yield _histogram(
            "message_age_seconds",
            "From the time on a message's author's clock until it is durable here. In each commit "
            "at most one message of others is measured, and none while catching up. The difference "
            "between the two clocks is in it.",
            timings.age,
        )

    def _kernel(self) -> Iterator[Metric]:
        ground = self.status.ground
        buffer = ground.datagrams.kernel_buffer()
        if buffer is None:
            return
        yield _gauge("receive_buffer_size_bytes", "What the system granted.", buffer.size)
        if buffer.used is not None:
            what = "Bytes of datagrams that the node has not taken yet."
            yield _gauge("receive_buffer_used_bytes", what, buffer.used)
        if buffer.drops is not None:
            what = (
                "Datagrams that the system dropped: this buffer was full, or there is a flood and "
                "they are from nobody."
            )
            yield _counter("receive_buffer_drops", what, buffer.drops)

    def _directory_figures(self) -> list[Metric]:
        """The figures that only the disk knows. If it cannot be read, there is only one."""
        readable = "1 if the data directory could be read just now."
        try:
            return [_gauge("data_readable", readable, 1), *self._disk()]
        except (OSError, StoreFailed):
            return [_gauge("data_readable", readable, 0)]

    def _disk(self) -> Iterator[Metric]:
        reader, directory = self.status.reader, self.status.directory
        used, once = reader.used_bytes(), reader.once_clients()
        yield _gauge("messages_kept", "Messages in the log now.", reader.counts()[0])
        yield _gauge("database_used_bytes", "The database without its free pages.", used)
        yield _gauge("once_clients", "Clients whose numbered says are remembered.", once)
        free = directory.free_bytes()
        yield _gauge("disk_free_bytes", "Bytes that this user may still write there.", free)
        sizes = directory.file_bytes()
        yield _gauge("database_bytes", "Sizes of the log's files.", sizes, "file")


def _gauge(name: str, what: str, figure: float | Mapping[Label, float], *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"flc_{name}", what, labels=labels), figure)


def _counter(name: str, what: str, figure: float | Mapping[Label, float], *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"flc_{name}", what, labels=labels), figure)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, figure: float | Mapping[Label, float]
) -> Metric:
    for values, value in (figure if isinstance(figure, Mapping) else {(): figure}).items():
        family.add_metric((values,) if isinstance(values, str) else values, float(value))
    return family


def _histogram(name: str, what: str, histogram: Histogram) -> Metric:
    bounds = (*map(str, histogram.bounds), "+Inf")
    buckets = list(zip(bounds, histogram.cumulative(), strict=True))
    return HistogramMetricFamily(f"flc_{name}", what, buckets=buckets, sum_value=histogram.total)
