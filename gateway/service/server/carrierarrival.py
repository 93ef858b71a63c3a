"""
A carrier that an agent has come on, in a dialect with streams, until it is gone: first it is nobody's, and then that of
a session::

    class AgentArrival(CarrierArrival[Message, AgentSession]):
        def gotMessage(self, message): ...          # on the control stream; self.attach, or self.refuse

    transport.protocol = AgentArrival(...).mux      # or return it from buildProtocol
"""

__all__ = ["CarrierArrival"]

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from gateway.domain.limits import Ticket
from gateway.net.mux import MuxSession
from gateway.net.timer import Timer
from gateway.service.controlstream import ControlStream
from gateway.service.server.attached import IAgentSession
from gateway.service.server.attachedsession import AttachedSession
from gateway.wire.agentcontrol import SessionError
from gateway.wire.errors import RemoteProtocolError

if TYPE_CHECKING:
    from gateway.service.server.agentdoor import AgentDoor

M = TypeVar("M")
S = TypeVar("S", bound=AttachedSession)


class CarrierArrival(ServerFactory, Generic[M, S]):
    """
    One carrier, and the factory of its streams: the first is the control stream.

    @param host: the agent's address.
    @param carrier: what it has come on, for people.
    @param ticket: released when it is gone.
    @param receive: of the control stream, as is C{encode}.
    @ivar mux: to put on the carrier.
    @ivar session: C{None} until the agent is attached.
    @ivar isOver: the carrier is gone, or about to be.
    """

    noisy = False

    def __init__(
        self,
        door: "AgentDoor",
        host: str,
        carrier: str,
        ticket: Ticket,
        receive: Callable[[bytes], Sequence[M]],
        encode: Callable[[M], bytes],
    ) -> None:
        self.door = door
        self.session: S | None = None
        self.isOver = False
        self._host = host
        self._carrier = carrier
        self._ticket = ticket
        self._receive = receive
        self._encode = encode
        self._control: ControlStream[M] | None = None
        self.mux = MuxSession(
            door.clock,
            client=False,
            factory=self,
            budget=door.windows,
            settings=door.settings.mux,
            name=host,
            ended=self.ended,
        )
        self._deadline = Timer(door.clock)
        self._deadline.start(
            door.settings.registerTimeout, self.refuse, SessionError.REGISTER_TIMEOUT, "No agent registered in time."
        )

    # -- For dialects

    def gotMessage(self, message: M) -> None:
        """The agent says something on the control stream."""
        raise NotImplementedError

    def refusal(self, code: str, details: str) -> M:
        """
        @return: what the agent is told when there will be no session.
        """
        raise NotImplementedError

    def streamProtocol(self, address: IAddress | None) -> IProtocol | None:
        """The agent opens a stream beside the control stream. C{None} resets it."""
        return None

    def send(self, message: M) -> None:
        """Say something on the control stream, if there is one."""
        if self._control is not None:
            self._control.send(message)

    def attached(self, session: S) -> None:
        """The carrier is a session's from now on."""
        self._deadline.stop()
        self.session = session

    def refuse(self, code: str, details: str, **facts: object) -> None:
        """
        There will be no session: say why, and close the carrier.

        @param facts: for the log alone.
        """
        self.isOver = True
        self._deadline.stop()
        self.door.logRefused(self._host, self._carrier, code, details, **facts)
        self.send(self.refusal(code, details))
        self.mux.close()

    def ended(self, reason: Failure) -> None:
        """The carrier is gone."""
        self.isOver = True
        self._deadline.stop()
        self._ticket.release()
        if self.session is not None:
            self.door.sessionOver(cast(IAgentSession, self.session))
            self.session.stopClock()
            self.session.logDetached(reason)

    # -- ServerFactory

    def buildProtocol(self, address: IAddress | None) -> IProtocol | None:  # type: ignore[override]  # not a Protocol
        if self._control is not None:
            return self.streamProtocol(address)
        self._control = ControlStream(
            self._receive, self._encode, self.gotMessage, self._failed, self.mux.close, self.door.clock
        )
        return self._control

    def _failed(self, error: RemoteProtocolError) -> None:
        """What came on the control stream is not the protocol."""
        if self.session is not None:
            self.session.end(error.code, error.details)
        else:
            self.refuse(error.code, error.details)
