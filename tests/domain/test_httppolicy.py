"""
Tests for what is done with the HTTP of a route.
"""

from base64 import b64encode
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.httppolicy import GUESSES, HttpDefaults, HttpProblem, Refusal, RoutePolicies, RoutePolicy
from gateway.domain.routes import Replica, Route, hostPlace
from gateway.domain.tokens import hashToken
from gateway.wire.agentcontrol import Service
from gateway.wire.http1 import RequestHead
from gateway.wire.httpoptions import HttpOptions
from tests.domain.attachments import FakeAttachment

VISITOR = "192.0.2.7"


def request(*headers: tuple[str, str], target: str = "/a?b", host: str = "app.example.com") -> RequestHead:
    """A request's head."""
    return RequestHead("GET", target, "1.1", [("host", host), *headers])


def basic(text: str) -> tuple[str, str]:
    """A header with credentials."""
    return ("authorization", "Basic " + b64encode(text.encode()).decode())


class HttpProblemTests(SynchronousTestCase):
    """
    L{HttpProblem}.
    """

    def test_status(self) -> None:
        """Each has a status, and what is wrong with a request has one of its own."""
        for problem in HttpProblem:
            self.assertTrue(300 < problem.status < 600)
            if problem.status not in (502,):
                self.assertIs(HttpProblem.of(problem.status), problem)
        self.assertIs(HttpProblem.of(418), HttpProblem.BAD_REQUEST)


class RefusalTests(SynchronousTestCase):
    """
    L{RoutePolicy.refusal}.
    """

    def ask(
        self,
        policy: RoutePolicy,
        head: RequestHead | None = None,
        *,
        host: str = VISITOR,
        isSecure: bool = True,
        now: float = 0.0,
        length: int | None = 0,
    ) -> Refusal | None:
        """Ask about a request."""
        return policy.refusal(head or request(), host, isSecure, now, length)

    def refused(self, policy: RoutePolicy, head: RequestHead | None = None, **facts: Any) -> Refusal:
        """Ask about a request that is refused; its status is that of its code."""
        refusal = self.ask(policy, head, **facts)
        assert refusal is not None
        self.assertEqual(refusal.status, HttpProblem(refusal.code).status)
        return refusal

    def test_nothing(self) -> None:
        """Where nothing is asked for nobody is refused, and nobody has a name."""
        self.assertEqual(RoutePolicy().user(request(basic("alice:secret"))), "")
        self.assertIsNone(self.ask(RoutePolicy(), isSecure=False, length=None))

    def test_access(self) -> None:
        """Only addresses that the rules allow come in, and nobody else is even sent to another place."""
        policy = RoutePolicy(HttpOptions(access=("allow 10.0.0.0/8",), httpsRedirect=True))
        self.assertIsNone(self.ask(policy, host="10.1.2.3"))
        self.assertEqual(self.refused(policy).code, "forbidden")
        self.assertEqual(self.refused(policy, isSecure=False).code, "forbidden")

    def test_wrongRules(self) -> None:
        """Rules that say nothing of addresses are found when the policy is made."""
        for line in ("allow a.example", "allow 10.0.0.1/8", "deny 10.0.0.0/8:22"):
            self.assertRaises(ValueError, RoutePolicy, HttpOptions(access=(line,)))

    def test_redirect(self) -> None:
        """Without TLS a visitor is sent to the same place with it."""
        for port, host, target, expected in (
            (443, "app.example.com", "/a?b", "https://app.example.com/a?b"),
            (443, "app.example.com:8080", "/", "https://app.example.com/"),
            (8443, "app.example.com:8080", "/", "https://app.example.com:8443/"),
            (8443, "[fd00::1]:8080", "/", "https://[fd00::1]:8443/"),
            (8443, "[fd00::1]", "/", "https://[fd00::1]:8443/"),
            (443, "app.example.com", "*", "https://app.example.com/"),
            (443, "app.example.com", "//evil.example", "https://app.example.com//evil.example"),
        ):
            policy = RoutePolicy(None, HttpDefaults(httpsRedirect=True, tlsPort=port))
            head = request(target=target, host=host)
            refusal = self.refused(policy, head, isSecure=False)
            self.assertEqual((refusal.status, refusal.headers), (308, (("Location", expected),)))
            self.assertIsNone(self.ask(policy, head))
        self.assertEqual(self.refused(policy, RequestHead("GET", "/", "1.0", []), isSecure=False).status, 400)

    def test_redirectIsTheServices(self) -> None:
        """A service's own word on redirects counts, but nobody is sent where there is no TLS."""
        for wanted, default, port, isSent in (
            (None, True, 443, True),
            (None, False, 443, False),
            (False, True, 443, False),
            (True, False, 443, True),
            (True, True, 0, False),
        ):
            policy = RoutePolicy(HttpOptions(httpsRedirect=wanted), HttpDefaults(httpsRedirect=default, tlsPort=port))
            self.assertEqual(self.ask(policy, isSecure=False) is not None, isSent)

    def test_passwords(self) -> None:
        """Who knows one of the passwords comes in under the user's name that belongs to it, and nobody else."""
        policy = RoutePolicy(HttpOptions(basicAuth=("alice:" + hashToken("a:b"), "bj\u00f6rn:" + hashToken("\u00fc"))))
        for good in ("alice:a:b", "bj\u00f6rn:\u00fc"):
            self.assertIsNone(self.ask(policy, request(basic(good))))
            self.assertEqual(policy.user(request(basic(good))), good.partition(":")[0])
        self.assertIsNone(self.ask(policy, request(("authorization", basic("alice:a:b")[1].replace("Basic", "bASIC")))))
        for wrong in (
            [], [basic("alice:a")], [basic("bj\u00f6rn:a:b")], [basic("alice")], [basic("alice:")], [basic("")], [basic(":")],
            [("authorization", "Basic")], [("authorization", "Basic \u00fc")], [("authorization", "Basic YWxpY2U6YTpi!")],
            [("authorization", "Bearer YWxpY2U6YTpi")], [basic("alice:a:b"), basic("alice:a:b")], [basic("alice:" + "a" * 2000)],
            [basic(f"alice:{hashToken('a:b')}")],
        ):  # fmt: skip
            refusal = self.refused(policy, request(*wrong))
            self.assertEqual(refusal.status, 401)
            self.assertEqual(refusal.headers, (("WWW-Authenticate", 'Basic realm="gateway", charset="UTF-8"'),))

    def test_guessing(self) -> None:
        """Whoever tries password after password waits, with the right one as well; others do not."""
        policy = RoutePolicy(HttpOptions(basicAuth=(f"alice:{hashToken('secret')}",)))
        right, wrong = request(basic("alice:secret")), request(basic("alice:guess"))
        for _ in range(10 * GUESSES):
            self.assertEqual(self.refused(policy).status, 401, "it is no guess to show nothing")
        for _ in range(GUESSES - 1):
            self.assertEqual(self.refused(policy, wrong).status, 401)
        self.assertIsNone(self.ask(policy, right))
        for _ in range(GUESSES):
            self.assertEqual(self.refused(policy, wrong).status, 401)
        refusal = self.refused(policy, right, now=59.0)
        self.assertEqual((refusal.code, refusal.headers), ("too-many-requests", (("Retry-After", "1"),)))
        self.assertIsNone(self.ask(policy, right, host="192.0.2.8"))
        self.assertIsNone(self.ask(policy, right, now=60.0))

    def test_body(self) -> None:
        """A body that is known to be too long is refused, and the gateway's own limit is never passed."""
        for wanted, cap, limit in ((0, 0, 0), (10, 0, 10), (0, 20, 20), (10, 20, 10), (30, 20, 20)):
            policy = RoutePolicy(HttpOptions(maxBody=wanted), HttpDefaults(maxBody=cap))
            self.assertEqual(policy.maxBody, limit)
            self.assertIsNone(self.ask(policy, length=limit))
            self.assertIsNone(self.ask(policy, length=None))
            if limit:
                self.assertEqual(self.refused(policy, length=limit + 1).status, 413)

    def test_rate(self) -> None:
        """More requests than the rate are refused, and told when to try again."""
        policy = RoutePolicy(HttpOptions(requestsPerSecond=2))
        self.assertEqual([self.ask(policy) for _ in range(2)], [None, None])
        self.assertEqual(self.refused(policy).headers, (("Retry-After", "1"),))
        self.assertIsNone(self.ask(policy, now=0.5))
        slow = RoutePolicy(HttpOptions(requestsPerSecond=0.1))
        self.assertIsNone(self.ask(slow))
        self.assertEqual(self.refused(slow, now=9.9).headers, (("Retry-After", "10"),))
        self.assertIsNone(self.ask(slow, now=10.0))

    def test_rateIsForThoseWhoMayCome(self) -> None:
        """Requests without a password take nothing from the rate."""
        policy = RoutePolicy(HttpOptions(requestsPerSecond=1, basicAuth=(f"alice:{hashToken('secret')}",)))
        for _ in range(5):
            self.assertEqual(self.refused(policy).status, 401)
        self.assertIsNone(self.ask(policy, request(basic("alice:secret"))))

    def test_inFlight(self) -> None:
        """So many requests at once are answered, and one more when one of them is over."""
        policy = RoutePolicy(HttpOptions(inFlight=5), HttpDefaults(inFlight=2))
        for _ in range(2):
            self.assertIsNone(self.ask(policy))
            policy.inFlight += 1
        self.assertEqual(self.refused(policy).status, 429)
        policy.inFlight -= 1
        self.assertIsNone(self.ask(policy))


class FieldTests(SynchronousTestCase):
    """
    L{RoutePolicy.requestFields} and L{RoutePolicy.responseFields}.
    """

    def test_nothing(self) -> None:
        """Where nothing is asked for the same list comes back."""
        fields = [("host", "a.example"), ("cookie", "a")]
        self.assertIs(RoutePolicy().requestFields(fields), fields)
        self.assertIs(RoutePolicy().responseFields(fields, True), fields)

    def test_request(self) -> None:
        """Headers are taken off, and set in place of all that were there; the visitor's list stays as it was."""
        policy = RoutePolicy(
            HttpOptions(
                hostHeader="internal:8080",
                setRequestHeaders=(("x-a", "1"), ("x-a", "2")),
                removeRequestHeaders=("cookie",),
            )
        )
        fields = [("x-a", "0"), ("host", "a.example"), ("cookie", "a"), ("x-b", "b"), ("authorization", "c")]
        before = list(fields)
        expected = [("host", "internal:8080"), ("x-b", "b"), ("authorization", "c"), ("x-a", "1"), ("x-a", "2")]
        self.assertEqual(policy.requestFields(fields), expected)
        self.assertEqual(fields, before)

    def test_password(self) -> None:
        """A password that was for the gateway goes no further."""
        policy = RoutePolicy(HttpOptions(basicAuth=(f"alice:{hashToken('secret')}",)))
        self.assertEqual(policy.requestFields([("host", "a.example"), basic("alice:secret")]), [("host", "a.example")])

    def test_response(self) -> None:
        """The same for responses."""
        options = HttpOptions(setResponseHeaders=(("x-a", "1"),), removeResponseHeaders=("server", "x-powered-by"))
        fields = [("server", "b"), ("x-a", "0"), ("set-cookie", "c"), ("set-cookie", "d")]
        expected = [("set-cookie", "c"), ("set-cookie", "d"), ("x-a", "1")]
        self.assertEqual(RoutePolicy(options).responseFields(fields, False), expected)

    def test_hsts(self) -> None:
        """Browsers that came by TLS are told to, where the origin has not told them something else."""
        added = ("strict-transport-security", "max-age=100")
        for wanted, default, isSecure, fields, expected in (
            (None, 100, True, [], [added]),
            (None, 100, False, [], []),
            (100, 0, True, [], [added]),
            (0, 100, True, [], []),
            (
                None,
                100,
                True,
                [("strict-transport-security", "max-age=7")],
                [("strict-transport-security", "max-age=7")],
            ),
        ):
            policy = RoutePolicy(HttpOptions(hsts=wanted), HttpDefaults(hsts=default))
            self.assertEqual(policy.responseFields(fields, isSecure), expected)


class RoutePoliciesTests(SynchronousTestCase):
    """
    L{RoutePolicies}.
    """

    def setUp(self) -> None:
        self.route = Route(hostPlace("a.example"), "alice", Random(1).random)
        self.serve(None)

    def serve(self, options: HttpOptions | None) -> None:
        """The route's agent says something else."""
        attachment = FakeAttachment("alice")
        service = Service(key="web", kind="http", hostnames=("a.example",), http=options)
        self.route.replicas = {attachment: Replica(attachment, service)}

    def test_same(self) -> None:
        """A route has one policy as long as it stands, and its own."""
        policies = RoutePolicies()
        policy = policies.of(self.route)
        self.assertIs(policies.of(self.route), policy)
        other = Route(hostPlace("b.example"), "alice", Random(1).random)
        other.replicas = self.route.replicas
        self.assertIsNot(policies.of(other), policy)

    def test_changes(self) -> None:
        """What the service or the gateway says anew is done at once; what was counted stays."""
        policies = RoutePolicies()
        policy = policies.of(self.route)
        policy.inFlight += 1
        self.serve(HttpOptions(maxBody=5, inFlight=1))
        self.assertEqual(policies.of(self.route).maxBody, 5)
        refusal = policies.of(self.route).refusal(request(), VISITOR, True, 0.0)
        assert refusal is not None
        self.assertEqual(refusal.status, 429)
        policies.defaults = HttpDefaults(maxBody=3)
        self.assertEqual(policies.of(self.route).maxBody, 3)
        policy.inFlight -= 1
        self.assertIsNone(policies.of(self.route).refusal(request(), VISITOR, True, 0.0))

    def test_rateStays(self) -> None:
        """A service cannot get around its rate by saying it again; one that is new counts at once."""
        policies = RoutePolicies()
        for inFlight in range(3):
            self.serve(HttpOptions(requestsPerSecond=1, inFlight=inFlight))
            policies.of(self.route).refusal(request(), VISITOR, True, 0.0)
        self.assertIsNotNone(policies.of(self.route).refusal(request(), VISITOR, True, 0.5))
        self.serve(HttpOptions(requestsPerSecond=2))
        self.assertIsNone(policies.of(self.route).refusal(request(), VISITOR, True, 0.5))

    def test_gone(self) -> None:
        """Of a route that stands no more nothing is kept."""
        policies = RoutePolicies()
        policies.of(self.route)
        del self.route
        self.assertEqual(len(policies._policies), 0)
