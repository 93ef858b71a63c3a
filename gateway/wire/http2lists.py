"""
HTTP/2's header lists, as they come: in one frame or several (RFC 9113, section 4.3), compressed by what came before
(RFC 7541).

    >>> lists = HeaderLists(16 * 1024, 32)
    >>> lists.begin(1, END_HEADERS | END_STREAM, memoryview(b"\\x82")).fields
    [(b':method', b'GET')]

Every list has to be read, though its stream may be refused or over, as the next ones depend on it.
"""

__all__ = ["HeaderList", "HeaderLists"]

from collections.abc import Iterable

import msgspec
from h2.errors import ErrorCodes
from hpack import Decoder, HPACKError, OversizedHeaderListError

from gateway.wire.http2frames import END_HEADERS, END_STREAM, MAX_WINDOW, PRIORITY_FLAG, connectionError, unpadded

RawFields = Iterable[tuple[bytes, bytes]]


class HeaderList(msgspec.Struct, frozen=True):
    """
    A list that is complete.

    @ivar dependsOnItself: its priority says so.
    """

    stream: int
    fields: list[tuple[bytes, bytes]]
    ended: bool
    dependsOnItself: bool

    @property
    def size(self) -> int:
        """Bytes of it (RFC 9113, section 6.5.2)."""
        return sum([len(name) + len(value) + 32 for name, value in self.fields])

    @property
    def isInformational(self) -> bool:
        """Whether this is the head of a response of 1xx."""
        return any(name == b":status" and value[:1] == b"1" for name, value in self.fields)


class HeaderLists(Decoder):
    """
    It takes the place of h2's decoder, and gives h2, which asks by L{decode}, what it is to see of a list.

    @param limit: bytes of a list. Up to twice as much is read.
    @param frames: of one list, at most.
    @ivar told: what h2 is to see.
    @ivar stream: of the list of which there is more to come; 0: of none.
    """

    def __init__(self, limit: int, frames: int) -> None:
        super().__init__(2 * limit)
        self.told: RawFields = ()
        self.stream = 0
        self._frames = frames
        self._blocks: list[bytes] = []
        self._size = 0
        self._ended = self._dependsOnItself = False

    def decode(self, data: bytes, raw: bool = False) -> RawFields:  # type: ignore[override]  # all that h2 needs
        return self.told

    def begin(self, stream: int, flags: int, payload: memoryview) -> HeaderList | None:
        """
        A frame of HEADERS came.

        @return: the list, when it is complete.
        @raise RemoteProtocolError: what ends the connection, as the lists behind it cannot be read.
        """
        block = unpadded(flags, payload)
        self._dependsOnItself = False
        if flags & PRIORITY_FLAG:
            if len(block) < 5:
                raise connectionError(ErrorCodes.FRAME_SIZE_ERROR, "A frame has no room for its priority.")
            self._dependsOnItself = int.from_bytes(block[:4]) & MAX_WINDOW == stream
            block = block[5:]
        self._ended = bool(flags & END_STREAM)
        self._blocks, self._size = [], 0
        return self.goOn(stream, flags, block)

    def goOn(self, stream: int, flags: int, block: memoryview) -> HeaderList | None:
        """A frame of CONTINUATION came; as L{begin}."""
        self._blocks.append(bytes(block))
        self._size += len(block)
        if self._size > self.max_header_list_size or len(self._blocks) > self._frames:
            raise connectionError(ErrorCodes.ENHANCE_YOUR_CALM, "A header list is far too long.")
        if not flags & END_HEADERS:
            self.stream = stream
            return None
        self.stream = 0
        return HeaderList(stream, self._read(b"".join(self._blocks)), self._ended, self._dependsOnItself)

    def _read(self, block: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return super().decode(block, raw=True)  # type: ignore[return-value]  # of bytes, when raw
        except OversizedHeaderListError:
            raise connectionError(ErrorCodes.ENHANCE_YOUR_CALM, "A header list is far too long.") from None
        except (HPACKError, IndexError, UnicodeDecodeError):
            raise connectionError(ErrorCodes.COMPRESSION_ERROR, "A header list cannot be read.") from None
