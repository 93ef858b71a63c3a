"""Tests for L{gateway.wire.http2lists}."""

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.wire.errors import RemoteProtocolError
from gateway.wire.http2frames import END_HEADERS, END_STREAM, PADDED, PRIORITY_FLAG
from gateway.wire.http2lists import HeaderLists, HeaderListWriter

FIELDS = [(b":method", b"GET"), (b"x-name", b"value"), (b"x-name", b"another")]


class HeaderListTests(SynchronousTestCase):
    """Frames to lists."""

    def setUp(self) -> None:
        self.lists = HeaderLists(1000, 4)
        self.encoder = Encoder()

    def test_oneFrame(self) -> None:
        """A list in one frame is complete at once."""
        block = memoryview(self.encoder.encode(FIELDS))
        received = self.lists.begin(1, END_HEADERS | END_STREAM, block)
        assert received is not None
        self.assertEqual((received.stream, received.fields, received.ended), (1, FIELDS, True))
        self.assertEqual(received.size, sum(len(name) + len(value) + 32 for name, value in FIELDS))

    @given(st.integers(0, 30), st.integers(0, 30))
    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    def test_anySplit(self, first: int, second: int) -> None:
        """It does not matter where a list is cut; whether it ends its stream is what the first frame says."""
        lists = HeaderLists(1000, 4)
        block = memoryview(Encoder().encode(FIELDS))
        first, second = sorted((first, second))
        self.assertIsNone(lists.begin(7, END_STREAM, block[:first]))
        self.assertEqual(lists.stream, 7)
        self.assertIsNone(lists.goOn(7, END_STREAM, block[first:second]))
        received = lists.goOn(7, END_HEADERS, block[second:])
        assert received is not None
        self.assertEqual((received.fields, received.ended, lists.stream), (FIELDS, True, 0))

    def test_aroundAList(self) -> None:
        """Padding and priority are no part of it."""
        block = b"\3" + b"\0\0\0\1\5" + self.encoder.encode(FIELDS) + bytes(3)
        received = self.lists.begin(1, END_HEADERS | PADDED | PRIORITY_FLAG, memoryview(block))
        assert received is not None
        self.assertEqual((received.fields, received.dependsOnItself, received.ended), (FIELDS, True, False))

    def test_listsBuildOnEachOther(self) -> None:
        """A list is read with what those before it left in the table."""
        for _ in range(2):
            block = self.encoder.encode(FIELDS)
            received = self.lists.begin(1, END_HEADERS, memoryview(block))
            assert received is not None
            self.assertEqual(received.fields, FIELDS)
        self.assertEqual(len(block), 3)

    def test_again(self) -> None:
        """A list that comes again is read as before, unless something else stands for the same bytes by then."""
        path = b"\x04\x02/a"  # in so many words, and not to be remembered
        for fields in ([(b"a", b"1")], [(b"b", b"2")]):
            self.lists.begin(1, END_HEADERS, memoryview(self.encoder.encode(fields)))
            for _ in range(3):
                received = self.lists.begin(1, END_HEADERS, memoryview(path + b"\xbe"))
                assert received is not None
                self.assertEqual(received.fields, [(b":path", b"/a"), *fields])
        self.assertEqual(self.lists._known.keys(), {path + b"\xbe"})
        self.lists.begin(1, END_HEADERS, memoryview(b"\x20"))  # the table is none
        error = self.assertRaises(RemoteProtocolError, self.lists.begin, 1, END_HEADERS, memoryview(path + b"\xbe"))
        self.assertEqual(error.code, ErrorCodes.COMPRESSION_ERROR.name)

    def test_memory(self) -> None:
        """Of lists that came no more than a few short ones are kept."""
        for n in range(300):
            value = b"%d" % n * 127
            self.lists.begin(1, END_HEADERS, memoryview(b"\0\1a" + bytes([n % 120]) + value[: n % 120]))
            self.lists.begin(1, END_HEADERS, memoryview(b"\0\1a\x7f\0" + value[:127]))
            self.assertLessEqual(sum(map(len, self.lists._known)), 4 * 128)

    def test_informational(self) -> None:
        """The head of a 1xx is told from others."""
        for status, isInformational in ((b"103", True), (b"200", False)):
            received = self.lists.begin(1, END_HEADERS, memoryview(self.encoder.encode([(b":status", status)])))
            assert received is not None
            self.assertEqual(received.isInformational, isInformational)

    def test_limits(self) -> None:
        """Too many bytes or frames, before or after decompression, are too much."""
        encoder = Encoder()
        encoder.encode([(b"a", b"b" * 500)])
        for frames in (
            [self.encoder.encode([(b"a", b"b" * 500)] * 5)],
            [bytes(900)] * 3,
            [b""] * 5,
        ):
            lists = HeaderLists(1000, 4)
            with self.assertRaises(RemoteProtocolError) as raised:
                lists.begin(1, 0, memoryview(frames[0]))
                for each in frames[1:]:
                    lists.goOn(1, 0, memoryview(each))
                lists.goOn(1, END_HEADERS, memoryview(b""))
            self.assertEqual(raised.exception.code, ErrorCodes.ENHANCE_YOUR_CALM.name)

    def test_unreadable(self) -> None:
        """A list that cannot be read is an error of compression."""
        error = self.assertRaises(RemoteProtocolError, self.lists.begin, 1, END_HEADERS, memoryview(b"\x80"))
        self.assertEqual(error.code, ErrorCodes.COMPRESSION_ERROR.name)

    @given(st.binary(max_size=64))
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_anything(self, data: bytes) -> None:
        """Whatever bytes come, they are a list or an error."""
        lists = HeaderLists(1000, 4)
        try:
            received = lists.begin(1, END_HEADERS, memoryview(data))
        except RemoteProtocolError as e:
            self.assertIn(e.code, (ErrorCodes.COMPRESSION_ERROR.name, ErrorCodes.ENHANCE_YOUR_CALM.name))
        else:
            assert received is not None
            self.assertLessEqual(received.size, 2000)

    @given(
        st.lists(
            st.one_of(
                st.integers(0, 5000),
                st.lists(
                    st.tuples(st.sampled_from((b":method", b"a", b"b" * 200)), st.binary(max_size=3), st.booleans()),
                    max_size=9,
                ),
                st.binary(max_size=9),
            ),
            max_size=9,
        )
    )
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_asHpackReadsThem(self, blocks: list[int | list[tuple[bytes, bytes, bool]] | bytes]) -> None:
        """Lists are what L{hpack} makes of the same blocks, whatever the tables and their sizes, or errors to both."""
        encoder, decoder, lists = Encoder(), Decoder(2**20), HeaderLists(2**19, 4)
        for block in blocks:
            if isinstance(block, int):
                encoder.header_table_size = min(block, 4096) if block % 5 else block
                continue
            data = block if isinstance(block, bytes) else encoder.encode(block)
            for _ in range(2):
                try:
                    expected = decoder.decode(data, raw=True)
                except (HPACKError, IndexError):
                    self.assertRaises(RemoteProtocolError, lists.begin, 1, END_HEADERS, memoryview(data))
                    return
                received = lists.begin(1, END_HEADERS, memoryview(data))
                assert received is not None
                self.assertEqual(received.fields, expected)
                self.assertEqual(received.size, sum(len(name) + len(value) + 32 for name, value in expected))
                self.assertEqual(lists.header_table.dynamic_entries, decoder.header_table.dynamic_entries)


class HeaderListWriterTests(SynchronousTestCase):
    """Lists to frames."""

    def setUp(self) -> None:
        self.writer, self.decoder = HeaderListWriter(), Decoder()

    def write(self, *fields: tuple[bytes, bytes]) -> bytes:
        """Write a list, which has to be read as what it is."""
        block = self.writer.write(fields)
        self.assertEqual(self.decoder.decode(block, raw=True), list(fields))
        return block

    def remembered(self) -> list[bytes]:
        """The names in the table."""
        return [name for name, _ in self.decoder.header_table.dynamic_entries]

    def test_secrets(self) -> None:
        """Secrets stay out of the table, by the other end too, and are not kept."""
        for name in (b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"):
            block = self.write((name, b"secret"))
            self.assertEqual(block[0] & 0xF0, 0x10)
        self.assertEqual((self.remembered(), self.writer._written), ([], {}))

    def test_whatChanges(self) -> None:
        """What is another thing each time moves nothing in the table."""
        self.write((b"server", b"a"), (b"content-length", b"1"))
        block = self.write((b"server", b"a"), (b"content-length", b"2"))
        self.assertEqual((len(block), self.remembered()), (1 + 4, [b"server"]))

    def test_again(self) -> None:
        """A field that was sent before is a byte, whatever number it has by then."""
        fields = [(b"server", b"a"), (b"x-a", b"1"), (b"x-b", b"2")]
        for count in (1, 2, 3, 3):
            block = self.write(*fields[:count])
        self.assertEqual(len(block), 3)

    def test_size(self) -> None:
        """A table's new size is said, though the same was set twice."""
        for size in (100, 100):
            self.writer.header_table_size = size
        self.assertEqual(self.write((b"a", b"b"))[0] & 0xE0, 0x20)

    def test_memory(self) -> None:
        """However many fields there are, and however long, little of them is kept."""
        for n in range(1000):
            self.write((b":path", b"/%d" % n), (b"etag", b"e" * n), (b"x", b"%d" % (n % 7)))
        self.assertLessEqual(sum(map(len, self.writer._written.values())), 64 * 128)
        self.assertLessEqual(self.writer.header_table._current_size, 4096)

    @given(
        st.lists(
            st.one_of(
                st.integers(0, 200),
                st.lists(
                    st.tuples(
                        st.sampled_from((b":status", b"date", b"cookie", b"a", b"b" * 30)),
                        st.sampled_from((b"", b"200", b"1", b"2", b"c" * 40)),
                    ),
                    max_size=6,
                ),
            ),
            max_size=12,
        )
    )
    @settings(deadline=None, max_examples=200, database=None, derandomize=True)
    def test_anything(self, steps: list[int | list[tuple[bytes, bytes]]]) -> None:
        """Whatever lists are written, with a table of whatever size, they are read as that."""
        self.setUp()
        for step in steps:
            if isinstance(step, int):
                self.writer.header_table_size = step
            else:
                self.write(*step)
                table = self.writer.header_table.dynamic_entries
                self.assertEqual(self.decoder.header_table.dynamic_entries, table)
