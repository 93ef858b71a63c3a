"""
The host at the end of the line: an SSH server whose shell does what a test types.

Conch with a scripted shell needs no user account, no root and no configuration, and it can die on command::

    port = reactor.listenTCP(0, SSHTarget(), interface="127.0.0.1")
    # ssh tester@127.0.0.1, password "secret", then one of:
    #   print WORDS    count LINES    close    reset
"""

from collections.abc import Callable
from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.conch.avatar import ConchUser
from twisted.conch.interfaces import ISession
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession, SSHSessionProcessProtocol, wrapProtocol
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.interfaces import IConsumer, IPullProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

USER = "tester"
PASSWORD = "secret"
GREETING = "Welcome to the target"


class _Shell(Protocol):
    """
    Echoes what is typed and obeys each line.
    """

    def __init__(self, tcp: ITCPTransport) -> None:
        self._tcp = tcp
        self._line = b""

    def connectionMade(self) -> None:
        self._write(GREETING.encode() + b"\r\n$ ")

    def dataReceived(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\r")
        self._write(data.replace(b"\r", b"\r\n"))
        for line in lines:
            self._obey(line.decode())

    def _obey(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "print":
            self._write(f"{rest.upper()}\r\n$ ".encode())
        elif command == "count":
            self._write(b"".join(b"%d\r\n" % number for number in range(int(rest))) + b"counted\r\n$ ")
        elif command == "close":
            self._tcp.loseConnection()
        elif command == "reset":
            self._tcp.abortConnection()

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


@implementer(ISession)
class _Session:
    """
    Gives every session the scripted shell.
    """

    def __init__(self, avatar: ConchUser) -> None:
        self._avatar = avatar

    def getPty(self, term: bytes, windowSize: tuple[int, int, int, int], modes: list[tuple[int, int]]) -> None:
        """Any terminal will do."""

    def windowChanged(self, newWindowSize: tuple[int, int, int, int]) -> None:
        """Any size will do."""

    def openShell(self, proto: SSHSessionProcessProtocol) -> None:
        """Start the shell."""
        shell = _Shell(cast(ITCPTransport, self._avatar.conn.transport.transport))
        shell.makeConnection(proto)
        proto.makeConnection(wrapProtocol(shell))

    def execCommand(self, proto: SSHSessionProcessProtocol, command: bytes) -> None:
        """Refuse: there is only the shell."""
        raise NotImplementedError("only a shell")

    def eofReceived(self) -> None:
        """The shell does not care."""

    def closed(self) -> None:
        """The shell keeps nothing."""


class _User(ConchUser):
    """
    Whoever knows the password.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channelLookup[b"session"] = SSHSession


registerAdapter(_Session, _User, ISession)


@implementer(IRealm)
class _Realm:
    """
    Has one kind of user.
    """

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """Let them in."""
        return interfaces[0], _User(), lambda: None


class SSHTarget(SSHFactory):
    """
    Listens for SSH: an ECDSA nistp256 host key (the only kind that the app can verify in a browser) and a password.
    """

    def __init__(self) -> None:
        key = Key(ec.generate_private_key(ec.SECP256R1()))
        self.publicKeys = {key.sshType(): key}
        self.privateKeys = {key.sshType(): key}
        checker = InMemoryUsernamePasswordDatabaseDontUse(**{USER: PASSWORD.encode()})
        self.portal = Portal(_Realm(), [checker])


@implementer(IPullProducer)
class CounterTarget(Protocol):
    """
    Sends 8-byte big-endian counters from 0 as fast as they are taken and ends right behind the last one.
    """

    TOTAL = 64 * 1024 * 1024
    """Bytes in all."""

    _CHUNK = 1024 * 1024

    def connectionMade(self) -> None:
        """Start sending."""
        self._sent = 0
        IConsumer(self.transport).registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Send the next piece; the end goes out together with the last."""
        assert self.transport is not None
        first = self._sent // 8
        self.transport.write(b"".join(n.to_bytes(8, "big") for n in range(first, first + self._CHUNK // 8)))
        self._sent += self._CHUNK
        if self._sent == self.TOTAL:
            IConsumer(self.transport).unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        """The connection is gone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing is kept."""
