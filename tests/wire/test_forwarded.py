"""Tests for L{gateway.wire.forwarded}."""

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.forwarded import forwardedFields
from gateway.wire.http1 import encodeFields

FUZZ = settings(deadline=None, max_examples=200, database=None, derandomize=True)

Fields = list[tuple[str, str]]

OURS = {
    "x-forwarded-for": "192.0.2.7",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "app.example",
    "x-forwarded-port": "443",
    "forwarded": "for=192.0.2.7;host=app.example;proto=https",
    "x-request-id": "3f6c",
}
"""What an origin is told of the visitor of these tests."""

NAMES = st.sampled_from(
    [*OURS, "x-forwarded-prefix", "x-forwarded-server", "x-real-ip", "x_forwarded_for", "content_length", "accept"]
)
VALUES = st.sampled_from(["for=1.2.3.4", 'for="[::1]:80"', "1.2.3.4, ::1", "https", "evil.example", "80", "", ",", '"'])


def forwarded(
    *fields: tuple[str, str],
    client: str = "192.0.2.7",
    proto: Literal["http", "https"] = "https",
    host: str = "app.example",
    port: int = 443,
    trusted: bool = False,
    prefix: str = "",
) -> dict[str, str]:
    """What an origin gets, where each name is there once."""
    got = forwardedFields(
        fields, client=client, proto=proto, host=host, port=port, trusted=trusted, requestID="3f6c", prefix=prefix
    )
    encodeFields(got)
    assert len(dict(got)) == len(got), got
    return dict(got)


class StrangersTests(SynchronousTestCase):
    """Nobody is believed who only came by."""

    def test_nothingClaimed(self) -> None:
        """An origin is told who asked, how, for what, and where; and by which name to find it."""
        self.assertEqual(forwarded(), OURS)

    def test_othersStay(self) -> None:
        """All other fields stay as they are, in order, and before ours."""
        fields = [("host", "app.example"), ("accept", "a"), ("x_custom", "1"), ("accept", "b"), ("x-forward", "2")]
        got = forwardedFields(
            fields, client="192.0.2.7", proto="https", host="app.example", port=443, trusted=False, requestID="3f6c"
        )
        self.assertEqual(got[: len(fields)], fields)
        self.assertEqual(dict(got[len(fields) :]), OURS)

    def test_claims(self) -> None:
        """Whatever a visitor claims is gone, in every spelling that an origin may take for it."""
        for name in (
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-server",
            "x-forwarded-ssl",
            "x-forwarded-client-cert",
            "x-forwarded-",
            "forwarded",
            "x-real-ip",
            "x-request-id",
            "x_forwarded_for",
            "x-forwarded_for",
            "x_forwarded-proto",
            "x_real_ip",
            "x.forwarded.host",
            "x_request_id",
            "content_length",
            "transfer_encoding",
            "content.length",
        ):
            for value in ("127.0.0.1", "for=127.0.0.1", "https", "evil.example"):
                self.assertEqual(forwarded((name, value)), OURS, name)
            self.assertEqual(forwarded((name, "1"), (name, "2")), OURS, name)

    @FUZZ
    @given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    def test_anyClaims(self, fields: Fields) -> None:
        """No claims together come to more than each alone."""
        accepted = [field for field in fields if field[0] == "accept"][:1]
        rest = [field for field in fields if field[0] != "accept"]
        self.assertEqual(forwarded(*accepted, *rest), {**dict(accepted), **OURS})

    def test_addresses(self) -> None:
        """IPv6 addresses are in brackets and quotes in Forwarded (RFC 7239, section 6), and in neither elsewhere."""
        got = forwarded(client="2001:db8::7", host="[2001:db8::1]:8443", port=8443)
        self.assertEqual(got["x-forwarded-for"], "2001:db8::7")
        self.assertEqual(got["x-forwarded-host"], "[2001:db8::1]:8443")
        self.assertEqual(got["x-forwarded-port"], "8443")
        self.assertEqual(got["forwarded"], 'for="[2001:db8::7]";host="[2001:db8::1]:8443";proto=https')

    def test_port(self) -> None:
        """A host with a port is quoted, too, as a colon is in no token."""
        got = forwarded(host="app.example:8080", port=8080, proto="http")
        self.assertEqual(got["forwarded"], 'for=192.0.2.7;host="app.example:8080";proto=http')

    def test_withoutHost(self) -> None:
        """Of a request without Host, as in HTTP/1.0, none is told."""
        got = forwarded(host="")
        self.assertNotIn("x-forwarded-host", got)
        self.assertEqual(got["forwarded"], "for=192.0.2.7;proto=https")

    def test_prefix(self) -> None:
        """A prefix that was taken off the path is told."""
        self.assertEqual(forwarded(prefix="/node"), {**OURS, "x-forwarded-prefix": "/node"})

    def test_noBy(self) -> None:
        """Nothing is told of the gateway's own addresses."""
        self.assertNotIn("by=", forwarded()["forwarded"])


class FrontsTests(SynchronousTestCase):
    """A trusted front may speak for others."""

    def front(self, *fields: tuple[str, str], prefix: str = "") -> dict[str, str]:
        """What an origin gets of a request from C{10.0.0.1}, which is trusted."""
        return forwarded(
            *fields, client="10.0.0.1", proto="http", host="internal:8080", port=8080, trusted=True, prefix=prefix
        )

    def test_nothingSaid(self) -> None:
        """A front that says nothing is the visitor."""
        got = self.front()
        self.assertEqual(got, forwarded(client="10.0.0.1", proto="http", host="internal:8080", port=8080))

    def test_all(self) -> None:
        """What it says is kept, and it comes behind those that it names."""
        got = self.front(
            ("x-forwarded-for", "203.0.113.9, 10.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-port", "443"),
            ("x-request-id", "from-the-front"),
            ("x-real-ip", "203.0.113.9"),
            ("x-forwarded-ssl", "on"),
            ("forwarded", "for=203.0.113.9;proto=https;by=10.9.9.9, for=10.9.9.9"),
        )
        self.assertEqual(
            got,
            {
                "x-forwarded-for": "203.0.113.9, 10.9.9.9, 10.0.0.1",
                "x-forwarded-proto": "https",
                "x-forwarded-host": "app.example",
                "x-forwarded-port": "443",
                "x-request-id": "from-the-front",
                "x-real-ip": "203.0.113.9",
                "x-forwarded-ssl": "on",
                "forwarded": "for=203.0.113.9;proto=https;by=10.9.9.9, for=10.9.9.9,"
                " for=10.0.0.1;host=app.example;proto=https",
            },
        )

    def test_lines(self) -> None:
        """A chain over several lines is one chain (RFC 9110, section 5.3)."""
        got = self.front(("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", ""), ("x-forwarded-for", "10.9.9.9"))
        self.assertEqual(got["x-forwarded-for"], "203.0.113.9, 10.9.9.9, 10.0.0.1")

    def test_oneOfTheTwo(self) -> None:
        """Where it says only one of X-Forwarded-For and Forwarded, the other is made from it."""
        got = self.front(("x-forwarded-for", "203.0.113.9, 2001:db8::9, 203.0.113.9:4711, [::1]:5, unknown, _x, what?"))
        self.assertEqual(
            got["forwarded"],
            'for=203.0.113.9, for="[2001:db8::9]", for=203.0.113.9, for="[::1]", for=unknown, for=_x, for=unknown,'
            ' for=10.0.0.1;host="internal:8080";proto=http',
        )
        got = self.front(
            ("forwarded", 'proto=https;For="[2001:db8::9]:4711", for=203.0.113.9; by=_y ,for="10.9.9.9:1"')
        )
        self.assertEqual(got["x-forwarded-for"], "2001:db8::9, 203.0.113.9, 10.9.9.9, 10.0.0.1")

    def test_contradiction(self) -> None:
        """Where the two name others, X-Forwarded-For holds: fronts that know it alone pass what visitors say in the other."""
        for claim in ("for=192.0.2.1", "for=203.0.113.9, for=192.0.2.1", "proto=https"):
            got = self.front(("x-forwarded-for", "203.0.113.9"), ("forwarded", claim))
            self.assertEqual(got, self.front(("x-forwarded-for", "203.0.113.9")), claim)

    def test_zones(self) -> None:
        """An address has no zone, which could be any text, and end a quoted one."""
        got = self.front(("x-forwarded-for", 'fe80::1%";for=192.0.2.1;x=", fe80::2%eth0, 203.0.113.9'))
        self.assertEqual(
            got["forwarded"],
            'for="[fe80::1]", for="[fe80::2]", for=203.0.113.9, for=10.0.0.1;host="internal:8080";proto=http',
        )

    def test_malformed(self) -> None:
        """What it says that is nothing of the kind is not passed on, and ours is in its place."""
        for name, values in (
            ("x-forwarded-proto", ("", "gopher", "https, http", "https;", "HTTPS")),
            ("x-forwarded-host", ("", "a b", "a, b", "u@a", "a/b", "a:http")),
            ("x-forwarded-port", ("", "0", "65536", "-1", "443, 80", "https", "\u0664\u0664")),
            ("x-request-id", ("", "a b", "a" * 129, "a;b", '"')),
            ("x-forwarded-prefix", ("/", "//evil.example", "a", "/a b", "/a?b", "/a, /b", "/<a>")),
            (
                "forwarded",
                ("", "for", 'for="', "for=1.2.3.4,", "for=[::1]", "for=1.2.3.4 by=x", 'for="a\\"b"', ";for=a"),
            ),
        ):
            usual = self.front().get(name)
            for value in values:
                self.assertEqual(self.front((name, value)).get(name), usual, (name, value))

    def test_aliases(self) -> None:
        """Fields that only look like another are dropped from a front, too."""
        self.assertEqual(self.front(("x_forwarded_for", "1.2.3.4"), ("content_length", "5")), self.front())

    def test_prefix(self) -> None:
        """A prefix that it took off comes before ours."""
        self.assertEqual(self.front(("x-forwarded-prefix", "/a/"), prefix="/b")["x-forwarded-prefix"], "/a/b")
        self.assertEqual(self.front(("x-forwarded-prefix", "/a"))["x-forwarded-prefix"], "/a")
        self.assertEqual(self.front(("x-forwarded-for", "::1"), prefix="/b")["x-forwarded-prefix"], "/b")

    @FUZZ
    @given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    def test_last(self, fields: Fields) -> None:
        """Whatever it says, it is itself the last of the chain, and each name is there once."""
        got = self.front(*[field for field in fields if field[0] != "accept"])
        self.assertTrue(got["x-forwarded-for"].endswith("10.0.0.1"))
        self.assertRegex(got["forwarded"], r"(^|, )for=10\.0\.0\.1;host=\S+;proto=https?$")
