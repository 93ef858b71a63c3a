"""
What is counted, for Prometheus.

Each service has a registry of its own, so two in one process do not mix, and nothing is counted per visitor or
target, whose number has no bound::

    metrics = Metrics()
    metrics.refused.add("banned")
    body = metrics.render()
"""

__all__ = ["Metrics", "Tally"]

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class _Values(Collector):
    """Asks for values when they are shown."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        values: Callable[[], Iterable[tuple[Sequence[str], float]]],
        family: type[GaugeMetricFamily | CounterMetricFamily],
    ) -> None:
        self._family = family
        self._name = name
        self._text = text
        self._labels = labels
        self._values = values

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        family = self._family(self._name, self._text, labels=self._labels)
        for labels, value in self._values():
            family.add_metric(labels, value)
        yield family


class Tally(Collector):
    """
    A counter with one label. Counting is an addition, for it is done several times for each visitor.
    """

    def __init__(self, name: str, text: str, label: str) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._counts: dict[str, float] = {}

    def add(self, label: str, amount: float = 1) -> None:
        """Count what has happened."""
        self._counts[label] = self._counts.get(label, 0) + amount

    def count(self, label: str) -> float:
        """What was counted."""
        return self._counts.get(label, 0)

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for label, count in self._counts.items():
            family.add_metric([label], count)
        yield family


class Metrics:
    """
    The counters of one gateway. C{docs/reference/metrics.md} explains each.

    @ivar CONTENT_TYPE: of what L{render} returns.
    """

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.connections = self._tally("connections", "Connections accepted.", "listener")
        self.refused = self._tally("refused", "Connections refused before a handshake, by reason.", "reason")
        self.errors = self._tally("errors", "Conversations ended with an error, by its code.", "code")
        self.authenticated = self._counter("authenticated", "Visitors who proved an identity.")
        self.opened = self._counter("sessions_opened", "Sessions connected to their target.")
        self.closed = self._tally("sessions_closed", "Sessions ended, by cause.", "cause")
        self.requests = self._tally("http_requests", "Requests of HTTP answered, by status.", "status")
        self.bytes = self._tally("bytes", "Payload bytes of ended sessions.", "direction")

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"txgateway_{name}", text, registry=self._registry)

    def _tally(self, name: str, text: str, label: str) -> Tally:
        tally = Tally(f"txgateway_{name}", text, label)
        self._registry.register(tally)
        return tally

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value that somebody else keeps."""
        Gauge(f"txgateway_{name}", text, registry=self._registry).set_function(value)

    def gauges(
        self, name: str, text: str, *labels: str, values: Callable[[], Iterable[tuple[Sequence[str], float]]]
    ) -> None:
        """Show values that somebody else keeps, each with its labels."""
        self._registry.register(_Values(f"txgateway_{name}", text, labels, values, GaugeMetricFamily))

    def totals(
        self, name: str, text: str, *labels: str, values: Callable[[], Iterable[tuple[Sequence[str], float]]]
    ) -> None:
        """Show what somebody else counts, each with its labels."""
        self._registry.register(_Values(f"txgateway_{name}", text, labels, values, CounterMetricFamily))

    def render(self) -> bytes:
        """All of it in the Prometheus text format."""
        return generate_latest(self._registry)
