"""
The two ways in which a conversation goes wrong.

The distinction is h11's: what the peer did wrong is expected, is answered in the door's own protocol and
costs one log line; what I{we} did wrong is a defect and must raise::

    try:
        message = decode(data)
    except RemoteProtocolError as e:
        send(encodeError(e.code, e.details))
"""

__all__ = ["LocalProtocolError", "ProtocolError", "RemoteProtocolError"]


class ProtocolError(Exception):
    """A rule of a wire protocol was broken."""


class LocalProtocolError(ProtocolError):
    """Our own code asked for something that the protocol does not allow in this state."""


class RemoteProtocolError(ProtocolError):
    """
    The peer broke the protocol.

    @ivar code: a short stable word, as the door's protocol spells it, e.g. C{invalid-message}.
    @ivar details: a sentence for a person. Never holds secrets; may hold at most a short, escaped excerpt.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.details}"
