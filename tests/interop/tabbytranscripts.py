"""
The conversations that define what a Tabby connection gateway does, and where the original fails at them.

They are the one source of three things: the interop tests of ours, the tests that the original still does what
we say of it, and C{docs/reference/tabby-differences.md}. Since the original dials whatever it is asked to, no transcript may name a target
outside the loopback network. To add one, write it below and run the tests::

    Transcript("pingIsAnswered", "A ping is answered.", TOKEN, (*CONNECTED, sendsFrame(PING), hearsPong(b"")))

The module is long because it is a table.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.interop.rawwebsocket import PING
from tests.interop.steps import (
    accepts,
    closes,
    connects,
    connectsToGateway,
    drops,
    finishes,
    gets,
    hears,
    hearsClose,
    hearsData,
    hearsError,
    hearsPong,
    isHeldBack,
    isRefused,
    logOmits,
    logSays,
    notDialled,
    opens,
    opensTls,
    refusesDials,
    says,
    saysBinary,
    sends,
    sendsFragments,
    sendsFrame,
    sendsText,
    sendsTls,
    targetEnds,
    targetReceives,
    targetResets,
    targetSeesEnd,
    targetSends,
    uploads,
)
from tests.interop.transcripts import ABSENT, Divergence, Setup, Step, Transcript

TOKEN_TEXT = "a-token-of-the-tests"
ONE_SHOT = "ZQXJ" + "5" * 60

ADMIN_FILES = (
    "--admin-certificate",
    "{files}/server/certificate.pem",
    "--admin-private-key",
    "{files}/server/key.pem",
    "--admin-ca",
    "{files}/ca.pem",
)
SERVER_FILES = ("--certificate", "{files}/server/certificate.pem", "--private-key", "{files}/server/key.pem")
ALLOW = ("--allow", "127.0.0.0/8")

TOKEN = Setup("token", ("--token-auth",), {"TABBY_AUTH_TOKEN": TOKEN_TEXT})
OPEN = Setup("open", ("--no-auth",), oursToo=ALLOW)
STRICT = Setup("strict", ("--no-auth",))
MANAGED = Setup("managed", ADMIN_FILES, admin=True)
POISONED = Setup("poisoned", ADMIN_FILES, admin=True)
MANAGED_WITH_TOKEN = Setup("managedWithToken", ADMIN_FILES, {"TABBY_AUTH_TOKEN": TOKEN_TEXT}, admin=True)
TLS = Setup("tls", ("--no-auth", *SERVER_FILES), oursToo=ALLOW)
MUTUAL_TLS = Setup("mutualTls", ("--no-auth", *SERVER_FILES, "--ca", "{files}/ca.pem"), oursToo=ALLOW)

SETUPS = (TOKEN, OPEN, STRICT, MANAGED, POISONED, MANAGED_WITH_TOKEN, TLS, MUTUAL_TLS)

GREETED = (opens(), hears("hello", version=1, auth_required=True))
HELLO = says("hello", version=1, auth_token=TOKEN_TEXT)
READY = (*GREETED, HELLO, hears("ready"))
CONNECTED = (*READY, connects(), accepts, hears("connected"))

GREETED_OPEN = (opens(), hears("hello", version=1, auth_required=False))
READY_OPEN = (*GREETED_OPEN, says("hello", version=1), hears("ready"))

ECHO = (sends(b"up"), targetReceives(b"up"), targetSends(b"down"), hearsData(b"down"))

MIB = 1024 * 1024


def inTurn(*parts: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps of all C{parts} as one sequence."""
    return tuple(step for part in parts for step in part)


def _afterConnecting(*steps: Step) -> tuple[Step, ...]:
    return (*CONNECTED, *steps)


def _presents(token: str) -> tuple[Step, ...]:
    return (opens(), hears("hello"), says("hello", version=1, auth_token=token))


_CONVERSATION = (
    Transcript("tokenAuth", "The right token leads to the target.", TOKEN, (*CONNECTED, *ECHO)),
    Transcript(
        "noAuth",
        "Without authentication no token is asked for.",
        OPEN,
        (*READY_OPEN, connects(), accepts, hears("connected"), *ECHO),
    ),
    Transcript(
        "noAuthIgnoresToken",
        "Without authentication a token that is presented anyway is ignored.",
        OPEN,
        (*GREETED_OPEN, says("hello", version=1, auth_token="any"), hears("ready")),
    ),
    Transcript(
        "pathIsIgnored",
        "Any path and query will do.",
        TOKEN,
        inTurn((opens("/some/path?host=h&x=1"), hears("hello")), CONNECTED[2:], ECHO),
    ),
    Transcript(
        "versionMayBeMissing",
        "The client's hello needs no version.",
        TOKEN,
        (*GREETED, says("hello", auth_token=TOKEN_TEXT), hears("ready")),
    ),
    Transcript(
        "versionMayBeAnyNumber",
        "The client's hello may name any version.",
        TOKEN,
        (*GREETED, says("hello", version=7, auth_token=TOKEN_TEXT), hears("ready")),
    ),
    Transcript(
        "unknownKeysAreIgnored",
        "Keys that are not known are ignored.",
        TOKEN,
        inTurn(
            (*GREETED, says("hello", version=1, auth_token=TOKEN_TEXT, extra={"a": [1]}), hears("ready")),
            (connects(extra=None), accepts, hears("connected")),
            ECHO,
        ),
    ),
    Transcript(
        "helloInBinaryFrame",
        "Control messages may come in binary frames.",
        TOKEN,
        inTurn(
            (*GREETED, saysBinary("hello", version=1, auth_token=TOKEN_TEXT), hears("ready")),
            CONNECTED[4:],
            ECHO,
        ),
    ),
    Transcript(
        "numericStringPort",
        "The port may be a string of digits.",
        TOKEN,
        (*READY, connects(port=str), accepts, hears("connected"), *ECHO),
    ),
    Transcript(
        "hostMayBeName",
        "The host may be a name.",
        TOKEN,
        (*READY, connects(host="localhost"), accepts, hears("connected"), *ECHO),
    ),
)

_CONVERSATION_ERRORS = (
    Transcript(
        "expectedHello",
        "Anything but hello first is answered `expected-hello`.",
        TOKEN,
        (*GREETED, connects(), hearsError("expected-hello"), notDialled),
    ),
    Transcript(
        "expectedAuthToken",
        "A hello without a token is answered `expected-auth-token`.",
        TOKEN,
        (*GREETED, says("hello", version=1), hearsError("expected-auth-token")),
    ),
    Transcript(
        "emptyTokenIsNoToken",
        "An empty token is no token.",
        TOKEN,
        (*_presents(""), hearsError("expected-auth-token")),
    ),
    Transcript(
        "nullTokenIsNoToken",
        "A token of null is no token.",
        TOKEN,
        (*GREETED, says("hello", version=1, auth_token=None), hearsError("expected-auth-token")),
    ),
    Transcript(
        "incorrectAuthToken",
        "A wrong token is answered `incorrect-auth-token`.",
        TOKEN,
        (*_presents("wrong"), hearsError("incorrect-auth-token")),
    ),
    Transcript(
        "expectedConnect",
        "Anything but connect after hello is answered `expected-connect`.",
        TOKEN,
        (*READY, HELLO, hearsError("expected-connect")),
    ),
    Transcript(
        "connectionFailed",
        "A target that refuses is answered `connection-failed`, and why.",
        TOKEN,
        (*READY, refusesDials, connects(), hearsError("connection-failed", details=True)),
    ),
    Transcript(
        "connectWithoutTarget",
        "A connect with neither host nor port, as Tabby Web's telnet sends, is answered `connection-failed`, and why.",
        TOKEN,
        (*READY, says("connect"), hearsError("connection-failed", details=True)),
    ),
)

_NO_DETAILS = "Sends the bare code, which the Tabby app does not show."

_DETAILS = tuple(
    Transcript(
        name,
        f"The error `{code}` says in words what went wrong.",
        TOKEN,
        (*steps, hearsError(code, details=True)),
        Divergence(_NO_DETAILS, (f"awaiting details of {code}: none",)),
    )
    for name, code, steps in (
        ("detailsOfExpectedHello", "expected-hello", (*GREETED, connects())),
        ("detailsOfExpectedAuthToken", "expected-auth-token", (*GREETED, says("hello", version=1))),
        ("detailsOfIncorrectAuthToken", "incorrect-auth-token", _presents("wrong")),
        ("detailsOfExpectedConnect", "expected-connect", (*READY, HELLO)),
    )
)


def _dies(code: str) -> Divergence:
    return Divergence("Dies with a traceback; Close 1011.", (f"awaiting error {code}: close 1011",))


_GARBAGE = (
    *(
        Transcript(
            name,
            f"{what} for hello is answered `invalid-message`.",
            TOKEN,
            (*GREETED, step, hearsError("invalid-message", details=True)),
            _dies("invalid-message"),
        )
        for name, what, step in (
            ("helloNotJson", "Text that is not JSON", sendsText("hello?")),
            ("helloArray", "An array", sendsText("[]")),
            ("helloNull", "A null", sendsText("null")),
            ("helloEmpty", "An empty message", sendsText("")),
            ("helloBinaryGarbage", "A binary frame that is not UTF-8", sends(b"\xff\xfe\x00garbage")),
            ("helloIntegerToken", "An integer as token", says("hello", version=1, auth_token=5)),
        )
    ),
    Transcript(
        "connectNotJson",
        "Text that is not JSON for connect is answered `invalid-message`.",
        TOKEN,
        (*READY, sendsText("connect?"), hearsError("invalid-message", details=True)),
        _dies("invalid-message"),
    ),
    Transcript(
        "nonAsciiToken",
        "A wrong token may have any characters: `incorrect-auth-token`.",
        TOKEN,
        (*_presents("t\u00f6k\u00e9n \u2603"), hearsError("incorrect-auth-token")),
        _dies("incorrect-auth-token"),
    ),
    *(
        Transcript(
            name,
            f"{what} is answered `invalid-message`.",
            TOKEN,
            (*READY, connects(port=port), hearsError("invalid-message", details=True)),
            Divergence("Says `connection-failed`.", ("awaiting error invalid-message: error connection-failed",)),
        )
        for name, what, port in (
            ("portTooLarge", "A port over 65535", 65536),
            ("portNegative", "A negative port", -1),
            ("portZero", "Port 0", 0),
            ("portFraction", "A port that is not whole", 22.5),
            ("portMissing", "A host without a port", ABSENT),
        )
    ),
    Transcript(
        "hostMissing",
        "A connect without host is answered `invalid-message` and dials nothing.",
        TOKEN,
        (*READY, connects(host=ABSENT), hearsError("invalid-message", details=True), notDialled),
        Divergence(
            "Dials the port on the gateway's own loopback.", ("awaiting error invalid-message: message connected",)
        ),
    ),
)

_DATA = (
    Transcript(
        "dataBeforeConnected",
        "Data that is sent before connected reaches the target, in order.",
        TOKEN,
        inTurn(
            READY,
            (connects(), sends(b"early, "), sends(b"and more"), accepts, hears("connected")),
            (targetReceives(b"early, and more"),),
        ),
    ),
    Transcript(
        "fragmentedMessage",
        "A binary message in several frames reaches the target whole.",
        TOKEN,
        _afterConnecting(sendsFragments(b"in ", b"three ", b"frames"), targetReceives(b"in three frames")),
    ),
    Transcript(
        "emptyFrames",
        "Empty binary frames change nothing.",
        TOKEN,
        _afterConnecting(sends(b""), *ECHO),
    ),
    Transcript(
        "pingIsAnswered",
        "A ping is answered.",
        TOKEN,
        _afterConnecting(sendsFrame(PING, b"there?"), hearsPong(b"there?"), *ECHO),
    ),
    Transcript(
        "bannerAtOnce",
        "What the target says first reaches the client at once.",
        TOKEN,
        inTurn(
            READY,
            (connects(), accepts, targetSends(b"SSH-2.0-early\r\n"), hears("connected")),
            (hearsData(b"SSH-2.0-early\r\n"),),
        ),
        Divergence(
            "Does not send on what came before it began to wait for more: the terminal stays empty.",
            ("awaiting data: nothing",),
        ),
        repeat=20,
    ),
    Transcript(
        "textFrameWhenConnected",
        "A text frame once connected is ignored.",
        TOKEN,
        _afterConnecting(says("resize", columns=80), *ECHO),
        Divergence("The way to the target dies, the way back goes on.", ("awaiting data at the target: nothing",)),
    ),
    Transcript(
        "framesStaySmall",
        "Frames to the client have at most 64 KiB: Chromium re-orders larger ones.",
        TOKEN,
        _afterConnecting(targetSends(bytes(2 * MIB)), hearsData(bytes(2 * MIB), largest=65536)),
        Divergence(
            "Sends frames of up to 256 KiB.",
            ("awaiting data: a frame of more than 65536 bytes",),
        ),
    ),
    *(
        Transcript(
            name,
            f"A binary frame of {what} from the client, a large paste, is passed on.",
            TOKEN,
            _afterConnecting(uploads(b"0123456789abcdef" * (size // 16) + b"." * (size % 16))),
            Divergence("Ends the session with Close 1009.", saw),
        )
        for name, what, size, saw in (
            ("frameOverOneMiB", "1 MiB + 1", MIB + 1, ("awaiting data at the target: nothing",)),
            ("frameOfFourMiB", "4 MiB", 4 * MIB, ("awaiting data at the target: nothing",)),
        )
    ),
    Transcript(
        "floodIsHeldBack",
        "A client that floods a target that does not read is held back.",
        TOKEN,
        _afterConnecting(isHeldBack(64 * MIB)),
        Divergence("Takes all of 64 MiB.", (f"awaiting back-pressure: took {64 * MIB} bytes",)),
    ),
)

_ENDINGS = (
    Transcript(
        "targetEnds",
        "The target's end is told: `connection-closed`, then Close 1000.",
        TOKEN,
        _afterConnecting(*ECHO, targetEnds, hearsError("connection-closed", details=True)),
        Divergence("Says nothing: the session hangs.", ("awaiting error connection-closed: nothing",)),
    ),
    Transcript(
        "dataThenEndTogether",
        "What the target sends with its end arrives before the end is told.",
        TOKEN,
        _afterConnecting(
            targetSends(b"last words"),
            targetEnds,
            hearsData(b"last words"),
            hearsError("connection-closed", details=True),
        ),
        Divergence("Says nothing: the session hangs.", ("awaiting error connection-closed: nothing",)),
        repeat=3,
    ),
    Transcript(
        "speaksAndEnds",
        "A target that says something and ends at once, as a time service does, is heard, and its end is told.",
        TOKEN,
        inTurn(
            READY,
            (connects(), accepts, targetSends(b"noon"), targetEnds, hears("connected"), hearsData(b"noon")),
            (hearsError("connection-closed", details=True),),
        ),
        Divergence(
            "Dies with a traceback, Close 1011, or hangs.",
            ("awaiting error connection-closed: close 1011", "awaiting error connection-closed: nothing"),
        ),
    ),
    Transcript(
        "targetResets",
        "The target's reset is told: `connection-reset`, then Close 1000.",
        TOKEN,
        _afterConnecting(*ECHO, targetResets, hearsError("connection-reset", details=True)),
        Divergence("Dies with a traceback; Close 1011.", ("awaiting error connection-reset: close 1011",)),
    ),
    Transcript(
        "closeClosesTarget",
        "The client's Close ends the target's connection.",
        TOKEN,
        _afterConnecting(closes(1000), hearsClose(1000), targetSeesEnd),
        Divergence(
            "Leaves it open.",
            ("awaiting the end of the target's connection: nothing",),
        ),
    ),
    Transcript(
        "dropClosesTarget",
        "A client's TCP connection that ends without Close ends the target's.",
        TOKEN,
        _afterConnecting(drops, targetSeesEnd),
        Divergence(
            "Leaves it open.",
            ("awaiting the end of the target's connection: nothing",),
        ),
    ),
    Transcript(
        "unmaskedFrame",
        "A frame without mask is a protocol error: Close 1002.",
        TOKEN,
        _afterConnecting(sendsFrame(0x2, b"bare", masked=False), hearsClose(1002)),
    ),
    Transcript(
        "reservedOpcode",
        "A frame with a reserved opcode is a protocol error: Close 1002.",
        TOKEN,
        _afterConnecting(sendsFrame(0x3, b"?"), hearsClose(1002)),
    ),
)

_MANAGEMENT = (
    Transcript(
        "authorizeClient",
        "A token that is announced to the management listener admits one client.",
        MANAGED,
        inTurn(
            (
                opensTls(certificate="client", admin=True),
                hears("hello", version=1),
                says("authorize-client", token=ONE_SHOT),
                finishes,
            ),
            (*_presents(ONE_SHOT), hears("ready"), connects(), accepts, hears("connected")),
            ECHO,
        ),
    ),
    Transcript(
        "oneShotTokenIsSpent",
        "A token that was announced admits no second client.",
        MANAGED,
        inTurn(
            (
                opensTls(certificate="client", admin=True),
                hears("hello"),
                says("authorize-client", token="f" * 64),
                finishes,
            ),
            (*_presents("f" * 64), hears("ready")),
            (*_presents("f" * 64), hearsError("incorrect-auth-token")),
        ),
    ),
    Transcript(
        "tabbyWebSequence",
        "Tabby Web's back end: the command without reading hello, and the Close at once; the token counts.",
        MANAGED,
        inTurn(
            (
                opensTls(certificate="client", admin=True),
                says("authorize-client", token="e" * 64),
                closes(1000),
                hears("hello"),
                finishes,
            ),
            (*_presents("e" * 64), hears("ready")),
        ),
    ),
    Transcript(
        "authorizeIsAcknowledged",
        "A token that was taken is acknowledged.",
        MANAGED,
        inTurn(
            (
                opensTls(certificate="client", admin=True),
                hears("hello"),
                says("authorize-client", token="d" * 64),
                hears("ok"),
            ),
            (hearsClose(1000),),
        ),
        Divergence("Says nothing.", ("awaiting ok: close 1000",)),
    ),
    Transcript(
        "unexpectedCommand",
        "Another command is answered `unexpected-command`.",
        MANAGED,
        (
            opensTls(certificate="client", admin=True),
            hears("hello"),
            says("shutdown"),
            hearsError("unexpected-command"),
        ),
    ),
    Transcript(
        "commandNotJson",
        "A command that is not JSON is answered `invalid-message`.",
        MANAGED,
        (
            opensTls(certificate="client", admin=True),
            hears("hello"),
            sendsText("?"),
            hearsError("invalid-message", details=True),
        ),
        _dies("invalid-message"),
    ),
    Transcript(
        "expectedToken",
        "`authorize-client` without token is answered `expected-token`.",
        POISONED,
        (
            opensTls(certificate="client", admin=True),
            hears("hello"),
            says("authorize-client"),
            hearsError("expected-token"),
        ),
        Divergence("Sends the error, then dies with a traceback.", ("awaiting close 1000: close 1011",)),
    ),
    Transcript(
        "missingTokenHarmsNobody",
        "`authorize-client` without token changes nothing for other clients.",
        POISONED,
        inTurn(
            (
                opensTls(certificate="client", admin=True),
                hears("hello"),
                says("authorize-client"),
                hears("error", code="expected-token"),
            ),
            (*_presents("wrong"), hearsError("incorrect-auth-token")),
        ),
        Divergence(
            "From then on a wrong token gets Close 1011.",
            ("awaiting error incorrect-auth-token: close 1011",),
        ),
    ),
    Transcript(
        "managementNeedsCertificate",
        "The management listener refuses whoever shows no certificate of its authority.",
        MANAGED,
        (isRefused(opensTls(certificate=None, admin=True)),),
    ),
    Transcript(
        "managementNeedsRightCertificate",
        "The management listener refuses a certificate of another authority.",
        MANAGED,
        (isRefused(opensTls(certificate="stranger", admin=True)),),
    ),
    Transcript(
        "environmentTokenNeedsOption",
        "`TABBY_AUTH_TOKEN` counts with `--token-auth` only.",
        MANAGED_WITH_TOKEN,
        (*_presents(TOKEN_TEXT), hearsError("incorrect-auth-token")),
        Divergence(
            "Accepts the token whenever the variable is set.", ("awaiting error incorrect-auth-token: message ready",)
        ),
    ),
    Transcript(
        "tokensStayOutOfLog",
        "No part of a token is logged.",
        MANAGED,
        (
            opensTls(certificate="client", admin=True),
            hears("hello"),
            says("authorize-client", token=ONE_SHOT),
            finishes,
            logOmits(ONE_SHOT[:4]),
        ),
        Divergence("Logs the first four characters.", ("awaiting a log without secrets: a secret",)),
    ),
)

_LISTENERS = (
    Transcript(
        "tls",
        "`--certificate` and `--private-key` turn on TLS.",
        TLS,
        inTurn(
            (opensTls(certificate=None), hears("hello", auth_required=False)),
            (*READY_OPEN[2:], connects(), accepts, hears("connected")),
            ECHO,
        ),
    ),
    Transcript(
        "clientCertificate",
        "`--ca` lets in who shows a certificate of that authority.",
        MUTUAL_TLS,
        (opensTls(certificate="client"), hears("hello")),
    ),
    Transcript(
        "clientCertificateIsNeeded",
        "`--ca` keeps out who shows none.",
        MUTUAL_TLS,
        (isRefused(opensTls(certificate=None)),),
    ),
    Transcript(
        "plainGet",
        "A browser that asks for the address gets a page that says what this is.",
        TOKEN,
        (gets("/", 200, contains=b"html"),),
        Divergence("Says 426 and the name of a missing header.", ("awaiting status 200: status 426",)),
    ),
    Transcript(
        "healthz",
        "`/healthz` answers 200.",
        TOKEN,
        (gets("/healthz", 200),),
        Divergence("Says 426.", ("awaiting status 200: status 426",)),
    ),
    Transcript(
        "tlsOnPlainListener",
        "TLS on a plain port is named in the log.",
        TOKEN,
        (sendsTls, logSays("TLS")),
        Divergence("Logs 400 Bad Request.", ("awaiting 'TLS' in the log: nothing",)),
    ),
)

_POLICY = (
    Transcript(
        "foreignOrigin",
        "Without authentication a page of another site is refused: 403.",
        STRICT,
        (isRefused(opens(headers={"Origin": "https://evil.example"}), "status 403"),),
        Divergence("Serves the pages of any site.", ("awaiting status 403: switched protocols",)),
    ),
    Transcript(
        "loopbackWithoutAuth",
        "Without authentication loopback and private targets are refused, unless a rule allows them.",
        STRICT,
        (*READY_OPEN, connects(), hearsError("target-denied", details=True), notDialled),
        Divergence(
            "Connects to whatever anybody asks for.",
            ("awaiting error target-denied: message connected",),
        ),
    ),
    Transcript(
        "unspecifiedAddress",
        "The target 0.0.0.0, another name of the gateway's own machine, is refused.",
        TOKEN,
        (*READY, connects(host="0.0.0.0"), hearsError("target-denied", details=True), notDialled),
        Divergence("Connects.", ("awaiting error target-denied: message connected",)),
    ),
    Transcript(
        "ownListener",
        "The gateway's own listener is refused as target.",
        TOKEN,
        (*READY, connectsToGateway, hearsError("target-denied", details=True)),
        Divergence("Connects to itself.", ("awaiting error target-denied: message connected",)),
    ),
)

TRANSCRIPTS = {
    "The conversation": (*_CONVERSATION, *_CONVERSATION_ERRORS, *_DETAILS),
    "Broken messages": _GARBAGE,
    "Data": _DATA,
    "Endings": _ENDINGS,
    "Management": _MANAGEMENT,
    "Listeners": _LISTENERS,
    "Policy": _POLICY,
}
"""All transcripts, by the heading under which the document lists them."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """
    A command line that is refused.

    @ivar names: words that the message on standard error must hold. The rest of the wording is each gateway's own.
    """

    name: str
    promise: str
    options: tuple[str, ...]
    names: tuple[str, ...]
    status: int = 2


COMMAND_LINES = (
    CommandLine(
        "certificateNeedsKey",
        "`--certificate` without `--private-key` is refused.",
        ("--no-auth", "--certificate", "server.pem"),
        ("--certificate", "--private-key"),
    ),
    CommandLine(
        "tokenAuthNeedsToken",
        "`--token-auth` without `TABBY_AUTH_TOKEN` is refused.",
        ("--token-auth",),
        ("--token-auth", "TABBY_AUTH_TOKEN"),
    ),
    CommandLine(
        "someAuthIsNeeded",
        "None of `--no-auth`, `--token-auth` and `--admin-port` is refused.",
        (),
        ("--no-auth", "--token-auth", "--admin-port"),
    ),
    CommandLine(
        "adminNeedsFiles",
        "`--admin-port` without its three files is refused.",
        ("--admin-port", "9001"),
        ("--admin-port", "--admin-certificate"),
    ),
    CommandLine(
        "adminNeedsEveryFile",
        "`--admin-port` with two of its three files is refused.",
        ("--admin-port", "9001", "--admin-certificate", "a", "--admin-private-key", "b"),
        ("--admin-port", "--admin-ca"),
    ),
    CommandLine(
        "adminNeedsFilesWithAuthToo",
        "`--admin-port` needs its files beside `--no-auth` too.",
        ("--no-auth", "--admin-port", "9001"),
        ("--admin-port", "--admin-certificate"),
    ),
    CommandLine(
        "portIsNumber", "A port that is not a number is refused.", ("--no-auth", "--port", "http"), ("port", "http")
    ),
    CommandLine("unknownOption", "An option that is not known is refused.", ("--no-auth", "--nonsense"), ("nonsense",)),
)
