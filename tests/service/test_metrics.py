"""Tests for L{gateway.service.metrics}."""

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from gateway.service.metrics import Metrics
from tests.service.tabby.tabbyfixture import TOKEN, TabbyFixture


class MetricsTests(SynchronousTestCase):
    """L{Metrics}."""

    def test_format(self) -> None:
        """What is rendered is Prometheus' text format, with a help text and our prefix for each family."""
        metrics = Metrics()
        metrics.refused.add('odd"\n')
        families = list(text_string_to_metric_families(metrics.render().decode()))
        self.assertTrue(families)
        for family in families:
            self.assertTrue(family.name.startswith("txgateway_") and family.documentation, family.name)

    def test_gauge(self) -> None:
        """A gauge shows the value that somebody else keeps at the time of asking."""
        metrics, values = Metrics(), [1.0]
        metrics.gauge("things", "Things.", lambda: values[0])
        self.assertIn(b"txgateway_things 1.0\n", metrics.render())
        values[0] = 2
        self.assertIn(b"txgateway_things 2.0\n", metrics.render())

    def test_twoInOneProcess(self) -> None:
        """Two gateways in one process count each for itself."""
        one, two = Metrics(), Metrics()
        one.opened.inc()
        self.assertIn(b"txgateway_sessions_opened_total 0.0\n", two.render())

    def test_labelsAreBounded(self) -> None:
        """Nothing is counted per visitor, target or token, so that visitors cannot make the page grow."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        sizes = []
        for host in ("198.51.100.1", "198.51.100.2", "2001:db8::1"):
            visitor, target = gateway.session(host=host)
            gateway.targetSends(target, b"x")
            visitor.vanish()
            sizes.append(len(text := gateway.metrics.render().decode()))
            for fact in (host, "box.test", TOKEN, "TABBY_AUTH_TOKEN"):
                self.assertNotIn(fact, text)
        self.assertEqual(len(text.splitlines()), len(gateway.metrics.render().splitlines()))
        self.assertLess(max(sizes) - min(sizes), 20)

    def test_anonymousProvesNothing(self) -> None:
        """Who shows no token is not counted as authenticated; who shows one that is known is, though none is asked for."""
        gateway = TabbyFixture.make(environmentToken=TOKEN, anonymous=True)
        gateway.greeted(None)
        gateway.greeted("wrong")
        self.assertEqual(gateway.metric("authenticated_total"), 0)
        gateway.greeted(TOKEN)
        self.assertEqual(gateway.metric("authenticated_total"), 1)

    def test_session(self) -> None:
        """A session counts where it should: connection, identity, opened, closed, bytes each way."""
        gateway = TabbyFixture.make(environmentToken=TOKEN)
        visitor, target = gateway.session()
        self.assertEqual([gateway.metric(name) for name in ("connections_open", "visitors")], [1, 1])
        visitor.send(b"12345")
        gateway.targetSends(target, b"123")
        visitor.close()
        gateway.targetEnds(target)
        for line, value in (
            ('connections_total{listener="client"}', 1),
            ("authenticated_total", 1),
            ("sessions_opened_total", 1),
            ('sessions_closed_total{cause="near-closed"}', 1),
            ('bytes_total{direction="up"}', 5),
            ('bytes_total{direction="down"}', 3),
            ("connections_open", 0),
            ("connections_unauthenticated", 0),
            ("visitors", 0),
            ("stalled_bytes", 0),
        ):
            self.assertEqual(gateway.metric(line), value, line)
