"""
HTTP/2's header lists, as they come and go: in one frame or several (RFC 9113, section 4.3), compressed by what came
before (RFC 7541).

    >>> lists = HeaderLists(16 * 1024, 32)
    >>> lists.begin(1, END_HEADERS | END_STREAM, memoryview(b"\\x82")).fields
    [(b':method', b'GET')]

Every list has to be read, though its stream may be refused or over, as the next ones depend on it.
"""

__all__ = ["HeaderList", "HeaderListWriter", "HeaderLists"]

from collections.abc import Iterable

import msgspec
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, HPACKError

from gateway.wire.http2frames import END_HEADERS, END_STREAM, MAX_WINDOW, PRIORITY_FLAG, connectionError, unpadded

RawFields = Iterable[tuple[bytes, bytes]]

_SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))
"""What compression may not remember: the length of another's guess would tell how right it is."""

_NOT_REMEMBERED = _SECRET | {
    *(b":path", b"age", b"content-length", b"content-range", b"date", b"etag", b"expires", b"if-modified-since"),
    *(b"if-none-match", b"last-modified", b"location", b"range", b"referer"),
}
"""And what it had better not: the next one differs, and all others would move in the table."""

_SHORT = 128
"""Bytes, as they are sent, of a field or a list that is worth being kept to be used again."""

_MOST_READ, _MOST_WRITTEN = 4, 64
"""Lists that were read, and fields that were written, of which that is done."""


class HeaderList(msgspec.Struct, frozen=True):
    """
    A list that is complete.

    @ivar size: bytes of it (RFC 9113, section 6.5.2).
    @ivar dependsOnItself: its priority says so.
    """

    stream: int
    fields: list[tuple[bytes, bytes]]
    size: int
    ended: bool
    dependsOnItself: bool

    @property
    def isInformational(self) -> bool:
        """Whether this is the head of a response of 1xx."""
        return any(name == b":status" and value[:1] == b"1" for name, value in self.fields)


class HeaderLists(Decoder):
    """
    Reads lists, frame by frame.

    @param limit: bytes of a list. Up to twice as much is read.
    @param frames: of one list, at most.
    @ivar stream: of the list of which there is more to come; 0: of none.
    """

    def __init__(self, limit: int, frames: int) -> None:
        super().__init__(2 * limit)
        self.stream = 0
        self._frames = frames
        self._blocks: list[bytes] = []
        self._size = 0
        self._ended = self._dependsOnItself = False
        self._known: dict[bytes, tuple[list[tuple[bytes, bytes]], int]] = {}
        self._isAsBefore = True  # what the table is, for all that was read of a list

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
        fields, size = self._find(b"".join(self._blocks))
        return HeaderList(stream, fields, size, self._ended, self._dependsOnItself)

    def _find(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
        """A list that came before, byte for byte, is what it was, as long as the table is what it was."""
        if (read := self._known.get(block)) is None:
            self._isAsBefore = True
            read = self._read(block)
            if not self._isAsBefore:
                self._known.clear()
            elif len(block) <= _SHORT:
                if len(self._known) >= _MOST_READ:
                    self._known.clear()
                self._known[block] = read
        return read

    def _read(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
        fields: list[tuple[bytes, bytes]] = []
        size = position = 0
        field: tuple[bytes, bytes]
        try:
            while position < len(block):
                first = block[position]
                if 0x80 <= first < 0xFF:  # a field from the tables: on a connection that goes on, almost all are
                    field, used = self.header_table.get_by_index(first & 0x7F), 1
                elif first == 0xFF:
                    field, used = self._decode_indexed(block[position:])
                elif first >= 0x40:
                    self._isAsBefore = False
                    field, used = self._decode_literal_index(block[position:])
                elif first < 0x20:
                    field, used = self._decode_literal_no_index(block[position:])
                elif not fields:
                    self._isAsBefore = False
                    position += self._update_encoding_context(block[position:])
                    continue
                else:
                    raise HPACKError("the size of a table changes in the middle of a list")
                position += used
                fields.append(field)
                size += len(field[0]) + len(field[1]) + 32
                if size > self.max_header_list_size:
                    raise connectionError(ErrorCodes.ENHANCE_YOUR_CALM, "A header list is far too long.")
            self._assert_valid_table_size()
        except (HPACKError, IndexError):
            raise connectionError(ErrorCodes.COMPRESSION_ERROR, "A header list cannot be read.") from None
        return fields, size


class HeaderListWriter(Encoder):
    """
    Writes lists. Most fields of most lists are those of the list before, so what was written for one is used again,
    until the table changes and all has other numbers in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[tuple[bytes, bytes], bytes] = {}

    def write(self, fields: RawFields) -> bytes:
        """
        @param fields: with names in lower case.
        """
        written, pieces = self._written, []
        if self.table_size_changes:
            written.clear()
            self.header_table.resized = True  # which hpack forgets when the same size is set again
            pieces.append(self.encode(()))  # says so
        for field in fields:
            piece = written.get(field)
            pieces.append(self._write(field) if piece is None else piece)
        return b"".join(pieces)

    def _write(self, field: tuple[bytes, bytes]) -> bytes:
        name = field[0]
        # Huffman's code saves a fifth of what mostly is sent once, and is a loop over bytes here.
        piece = self.add(field, sensitive=name in _NOT_REMEMBERED, huffman=False)
        if piece[0] & 0xC0 == 0x40:  # it is in the table now (RFC 7541, section 6.2.1)
            self._written.clear()
        elif name not in _SECRET and len(piece) <= _SHORT:
            if len(self._written) >= _MOST_WRITTEN:
                self._written.clear()
            self._written[field] = piece
        return piece
