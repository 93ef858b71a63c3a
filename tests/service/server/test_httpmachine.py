"""
Everything happens to the HTTP door in any order: several visitors with pipelined requests, origins of every manner,
agents that come and go, and time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, cast

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.domain.access import EVERYBODY
from gateway.net.budget import StallBudget
from gateway.net.httpinterfaces import IVisitorRequest
from gateway.net.httpsettings import HttpSettings
from gateway.service.agent.client import AgentClient
from gateway.service.server.attached import Visitor
from gateway.service.server.usage import RouteLimits
from gateway.testing import FlowAttempt, FlowLink
from gateway.wire.agentcontrol import Service
from gateway.wire.httpoptions import HttpOptions
from tests.service.server.doorsfixture import Doors
from tests.service.server.http2parties import Incoming, NewOrigin, NewVisitor
from tests.service.server.httpparties import HOST, Asked, OldVisitor, Origin


class HttpMachine:
    """
    What must hold: each visitor gets, in order, what origins answered to its own requests, or pages, and what was cut
    short does not look whole; what an origin gets is what a visitor sent; a request that may not be made twice is not;
    and in the end nothing is left of anybody.
    """

    def __init__(self, options: HttpOptions, limits: RouteLimits, perAddress: int, memory: int, requests: int) -> None:
        self.failures: list[LogEvent] = []
        self._observer = cast(ILogObserver, self._noticed)
        globalLogPublisher.addObserver(self._observer)
        self.doors = Doors(routeLimits=limits)
        self.budget = self.doors.visitors.budget = StallBudget(memory * StallBudget.PER_HALF)
        self.door = self.doors.http
        self.door.perAddress = perAddress
        self.door.settings = replace(HttpSettings(), requests=requests, unreadLimit=10_000)
        self.service = Service(key="web", kind="http", hostnames=(HOST,), http=options)
        self.agents: list[tuple[AgentClient, FlowLink]] = []
        self.visitors: list[OldVisitor | NewVisitor] = []
        self.origins: list[Origin | Incoming] = []
        self.isNew = options.protocol == "h2c"
        self.seen: Counter[str] = Counter()
        self.attach()
        route = self.doors.registry.host(HOST)
        assert route is not None
        self.policy = self.door.policies.of(route)
        for isNew in (False, False, True):
            self.come(isNew)

    def _noticed(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("event") == "gateway.defect":
            self.failures.append(event)

    def find(self, tag: str) -> Asked:
        """The request with this tag."""
        visitor = self.visitors[int(tag[1 : tag.index("-")])]
        number = int(tag[tag.index("-") + 1 :])
        return visitor.asked[number] if isinstance(visitor, OldVisitor) else visitor.streams[number].asked

    # -- Visitors

    def _visitor(self, which: int) -> OldVisitor | NewVisitor:
        return self.visitors[-1 - which % len(self.visitors)]

    def come(self, isNew: bool, chunkSize: int | None = None) -> None:
        """A visitor comes."""
        if len(self.visitors) >= 6:
            return
        name, doors = f"v{len(self.visitors)}", self.doors
        visitor: OldVisitor | NewVisitor = NewVisitor(name, doors.clock) if isNew else OldVisitor(name)

        def arrive(who: Visitor) -> IProtocol | None:
            ticket = doors.visitors.admit(who.host, EVERYBODY, "tls")
            return (
                None
                if ticket is None
                else self.door.serve(replace(who, alpn=b"h2", hostname=HOST), ticket, agent="box")
            )

        if isinstance(visitor, NewVisitor):
            doors.come(arrive, visitor.connection, chunkSize=chunkSize)
        else:
            doors.come(self.door.arrive, visitor, chunkSize=chunkSize)
        visitor.link = doors.links[-1]
        self.visitors.append(visitor)

    def ask(self, which: int, method: str, size: int, manner: str) -> None:
        """A visitor asks for something, and sends some of it."""
        visitor = self._visitor(which)
        visitor.ask(method, size if method in ("POST", "PUT") else 0, manner)
        visitor.send(5000)

    def goOn(self, which: int, size: int) -> None:
        """A visitor sends more of it."""
        self._visitor(which).send(size)

    def stall(self, which: int, isStalled: bool) -> None:
        """A visitor stops reading, or goes on."""
        self._visitor(which).link.bToA.stalled = isStalled

    def leave(self, which: int, how: str) -> None:
        """A visitor leaves."""
        self._visitor(which).leave(how)

    # -- Origins

    def refuse(self) -> None:
        """All dials to origins fail."""
        for attempt in self.doors.origins.attempts:
            if not attempt.connected.called:
                attempt.fail(ConnectionRefusedError())

    def accept(self) -> None:
        """All dials to origins succeed."""
        for attempt in self.doors.origins.attempts:
            if not attempt.connected.called:
                self._accept(attempt)

    def _accept(self, attempt: FlowAttempt) -> None:
        if self.isNew:

            def told(request: IVisitorRequest) -> None:
                incoming = Incoming(request, server, self.seen, self.find)
                incoming.link = link
                self.origins.append(incoming)

            server = NewOrigin(told, self.doors.clock)
            link = attempt.accept(server.connection)
        else:
            origin = Origin(self.seen, self.find)
            origin.link = link = attempt.accept(origin)
            self.origins.append(origin)
        self.doors.links.append(link)

    def _waiting(self) -> list[Origin | Incoming]:
        return [origin for origin in self.origins if origin.asked is not None and origin.reason is None]

    def _newest(self, which: int, origins: list[Origin | Incoming]) -> list[Origin | Incoming]:
        return [origins[-1 - which % len(origins)]] if origins else []

    def answer(self, which: int, size: int, framing: str, now: int) -> None:
        """An origin answers, though the request may not be complete."""
        for origin in self._newest(which, self._waiting()):
            if not origin.line:
                origin.answer(size, framing)
                origin.send(now)
                if framing == "none":
                    origin.finish()

    def answerAll(self, size: int, framing: str) -> None:
        """All origins answer what there is, and send all that they have to send."""
        self.accept()
        self.doors.pump()
        for which in range(len(self.origins)):
            self.answer(which, size, framing, 0)
        for origin in self.origins:
            origin.send(len(origin.line))

    def switch(self, which: int, size: int) -> None:
        """An origin switches protocols, if it was asked to."""
        for origin in self._newest(which, self._waiting()):
            if origin.asked is not None and origin.asked.get("upgrade") and not origin.line:
                origin.switch()
                origin.send(size)

    def inform(self, which: int, status: int) -> None:
        """An origin says something before it answers."""
        for origin in self._newest(which, self._waiting()):
            if not origin.line:
                origin.inform(status)

    def speakUnasked(self, which: int, what: bytes) -> None:
        """An origin says what nobody asked for, while nobody waits for anything."""
        for origin in self._newest(which, self.origins):
            if not self.door.exchanges and origin.reason is None and not origin.line:
                origin.speakUnasked(what)

    def hangUp(self, which: int, abort: bool) -> None:
        """An origin hangs up."""
        for origin in self._newest(which, self.origins):
            if origin.reason is None:
                origin.hangUp(abort)

    def stallOrigin(self, which: int, isStalled: bool) -> None:
        """An origin stops reading, or goes on."""
        for origin in self._newest(which, self.origins):
            origin.link.aToB.stalled = isStalled

    # -- Agents, and time

    def attach(self) -> None:
        """The agent attaches, and takes over from itself."""
        if len(self.agents) < 4:
            agent = self.doors.agent("box", services=(self.service,))
            agent.start()
            self.agents.append((agent, self.doors.accept()))

    def loseAgent(self) -> None:
        """The agent is gone."""
        self.agents[-1][1].a.abortConnection()

    def offer(self) -> None:
        """The agent serves what it did."""
        self.agents[-1][0].offer((self.service,))

    def change(self) -> None:
        """The agent serves it in another way."""
        assert self.service.http is not None
        self.service = structs.replace(self.service, http=structs.replace(self.service.http, hsts=1, inFlight=4))
        self.offer()

    def withdraw(self) -> None:
        """The agent serves nothing any more."""
        self.agents[-1][0].offer(())

    def drain(self) -> None:
        """The gateway is about to stop."""
        self.doors.visitors.drain()
        self.door.drain()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.doors.wait(min(seconds, 3.0))
        for _ in range(round((seconds - 3.0) / 5)):
            self.doors.clock.advance(5.0)
            self.doors.pump()

    # -- What holds

    def check(self) -> None:
        """After all that takes no time: nothing failed, and nothing was done twice."""
        self.doors.pump()
        assert not self.failures, self.failures
        for tag, count in self.seen.items():
            assert count == 1 or self.find(tag).method != "POST", f"{tag} was made {count} times"
        assert sum(self.door._ofAddress.values()) == len(self.door.exchanges)
        assert self.budget.used <= self.budget.limit

    def settle(self) -> None:
        """Everybody takes what there is and says what they have to say, and everybody is answered."""
        for link in self.doors.links:
            link.aToB.stalled = link.bToA.stalled = False
        for _ in range(200):
            for visitor in self.visitors:
                visitor.send(1_000_000)
            self.doors.pump()
            self.answerAll(100, "length")
            self.check()
            if not any(visitor.isWaiting for visitor in self.visitors):
                return
            self.doors.wait(1)  # for a rate
        raise AssertionError("somebody is not answered")

    def end(self) -> None:
        """Everybody leaves, and nothing is left of them."""
        doors = self.doors
        self.settle()
        for visitor in self.visitors:
            visitor.leave("abort")
        doors.pump()
        self.refuse()
        for origin in self.origins:  # those who had ended their sending before are not seen to have left
            if (origin.asked or origin.switched) and origin.reason is None:
                origin.hangUp(True)
                doors.pump()
        doors.wait(30)
        self.check()
        assert not self.door.exchanges and not self.door._ofAddress
        assert not doors.visitors.visits and not doors.admission.connections and not self.budget.used
        assert not self.policy.inFlight and not any(each.connections for each in doors.visitors._usage.values())
        doors.clock.advance(70.0)
        doors.pump()
        assert all(origin.isOver for origin in self.origins), "a connection is kept for ever"

    def close(self) -> None:
        """Listen to logs no more."""
        globalLogPublisher.removeObserver(self._observer)


SIZES = (0, 1, 300, 5000, 70_000, 400_000)
FRAMINGS = ("length", "chunked", "none")

CHOICES: Sequence[tuple[int, Sequence[Sequence[Any]]]] = (
    # How often, and of each argument what it may be.
    (
        10,
        [["ask"], range(6), ["GET", "HEAD", "POST", "PUT"], SIZES, ["length", "chunked", "expects", "old", "upgrade"]],
    ),
    (6, [["answerAll"], SIZES, FRAMINGS]),
    (1, [["come"], [True, False], [None, 100, 5000]]),
    (4, [["goOn"], range(6), SIZES]),
    (2, [["stall"], range(6), [True, False]]),
    (2, [["leave"], range(6), ["abort", "close", "half-close", "half-close"]]),
    (1, [["refuse"]]),
    (4, [["accept"]]),
    (6, [["answer"], range(4), SIZES, FRAMINGS, SIZES]),
    (3, [["switch"], range(4), SIZES]),
    (2, [["inform"], range(4), [100, 103]]),
    (1, [["speakUnasked"], range(4), [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nTag: x\r\n\r\n"]]),
    (2, [["hangUp"], range(4), [True, False]]),
    (2, [["stallOrigin"], range(4), [True, False]]),
    (1, [["attach", "loseAgent", "attach", "offer", "withdraw", "drain", "change"]]),
    (4, [["wait"], [0.25, 0.25, 1.0, 3.0, 12.0, 80.0]]),
)

OPTIONS = (
    HttpOptions(),
    HttpOptions(inFlight=3),
    HttpOptions(maxBody=5000),
    HttpOptions(proxyPerVisitor=True),
    HttpOptions(compress=("gzip",)),
    HttpOptions(protocol="h2c"),
)
LIMITS = (RouteLimits(), RouteLimits(connections=3), RouteLimits(bytesPerSecond=100_000))


class HttpMachineTests(SynchronousTestCase):
    """L{HttpMachine}, many times."""

    @settings(deadline=None, max_examples=150, database=None, derandomize=True, phases=[Phase.generate])
    @given(seed=st.integers(0, 2**32 - 1))
    def test_anyOrder(self, seed: int) -> None:
        """Whatever happens in whatever order, everybody gets what is theirs, and nothing is left at the end."""
        random = Random(seed)
        choose = random.choice
        machine = HttpMachine(choose(OPTIONS), choose(LIMITS), choose((0, 4)), choose((1000, 2)), choose((1000, 3)))
        weights = [weight for weight, _ in CHOICES]
        try:
            for _, choices in random.choices(CHOICES, weights, k=80):
                name, *arguments = map(choose, choices)
                getattr(machine, name)(*arguments)
                machine.check()
            machine.end()
        finally:
            machine.close()
