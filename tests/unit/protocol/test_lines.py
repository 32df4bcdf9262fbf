"""The frame parser: the same bytes give the same frames and errors, however the network cuts them up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.errors import BadJson, LineTooLong
from evcharge.protocol.lines import MAX_LINE_BYTES, LineParser

SMALL_LIMIT = 8

# Mostly line ends, white space and few others, so that short streams meet every case.
STREAMS = st.lists(
    st.sampled_from([b"\n", b"\r", b" ", b"a", b"{}", b"\x00", b"\xff", b"abcdefgh"]), max_size=30
).map(b"".join)


def chunks_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def drain(parser: LineParser) -> list[bytes | type[Exception]]:
    """All that the parser gives now; it ends with the error class where there is an error for good."""
    out: list[bytes | type[Exception]] = []
    while True:
        try:
            frame = parser.next_frame()
        except BadJson:
            out.append(BadJson)
        except LineTooLong:
            return [*out, LineTooLong]
        else:
            if frame is None:
                return out
            out.append(frame)


def parse(chunks: list[bytes], eof: bool, max_line_bytes: int) -> list[bytes | type[Exception]]:
    parser = LineParser(max_line_bytes)
    out: list[bytes | type[Exception]] = []
    for chunk in chunks:
        parser.receive_data(chunk)
        out += drain(parser)
        if LineTooLong in out:
            return out
    if eof:
        parser.receive_eof()
        out += drain(parser)
    return out


def expected(stream: bytes, eof: bool, max_line_bytes: int) -> list[bytes | type[Exception]]:
    """The rules, said once more and as simply as can be."""
    *lines, rest = stream.split(b"\n")
    out: list[bytes | type[Exception]] = []
    for line in lines:
        if len(line) > max_line_bytes:
            return [*out, LineTooLong]
        if line.strip():
            out.append(line.strip())
    if len(rest) > max_line_bytes:
        return [*out, LineTooLong]
    if eof and rest.strip():
        out.append(BadJson)
    return out


@given(STREAMS, st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_any_chunking_gives_the_same_frames_and_errors(stream: bytes, cuts: list[int], eof: bool) -> None:
    assert parse(chunks_of(stream, cuts), eof, SMALL_LIMIT) == expected(stream, eof, SMALL_LIMIT)


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_any_bytes_raise_nothing_but_the_two_errors(stream: bytes, cuts: list[int], eof: bool) -> None:
    assert parse(chunks_of(stream, cuts), eof, SMALL_LIMIT) == expected(stream, eof, SMALL_LIMIT)


@pytest.mark.parametrize("stream", [b"\nabcdefgh\n", b"a\n\nabcdefgh\n", b"\n\n\nabcdefgh\n"])
def test_an_empty_line_takes_nothing_from_the_limit_of_the_next(stream: bytes) -> None:
    assert parse([stream], True, SMALL_LIMIT) == expected(stream, True, SMALL_LIMIT)
    assert parse([stream[:1], stream[1:]], True, SMALL_LIMIT) == expected(stream, True, SMALL_LIMIT)


@given(STREAMS)
def test_byte_by_byte_is_as_good_as_in_one_piece(stream: bytes) -> None:
    one_by_one = [stream[i : i + 1] for i in range(len(stream))]
    assert parse(one_by_one, True, SMALL_LIMIT) == parse([stream], True, SMALL_LIMIT)


def test_the_limit_is_64_kib_exactly() -> None:
    assert MAX_LINE_BYTES == 65536
    longest = b"x" * 65536
    assert parse([longest + b"\n"], False, MAX_LINE_BYTES) == [longest]
    assert parse([longest + b"x\n"], False, MAX_LINE_BYTES) == [LineTooLong]


def test_a_line_is_too_long_before_its_end_has_come() -> None:
    parser = LineParser()
    parser.receive_data(b"x" * 65536)
    assert parser.next_frame() is None
    parser.receive_data(b"x")
    with pytest.raises(LineTooLong, match="65536 bytes"):
        parser.next_frame()


def test_frames_before_a_line_that_is_too_long_are_still_given() -> None:
    assert parse([b"first\nsecond\n" + b"x" * 9 + b"\nthird\n"], True, SMALL_LIMIT) == [
        b"first",
        b"second",
        LineTooLong,
    ]


def test_too_long_is_for_good() -> None:
    parser = LineParser(SMALL_LIMIT)
    parser.receive_data(b"123456789")
    for more in (b"", b"\n", b"{}\n{}\n"):
        parser.receive_data(more)
        with pytest.raises(LineTooLong):
            parser.next_frame()
    parser.receive_eof()
    with pytest.raises(LineTooLong):
        parser.next_frame()


@pytest.mark.parametrize("empty", [b"\n", b"\r\n", b"  \n", b"\n\n\n", b"\t\r\n\n"])
def test_empty_lines_are_skipped(empty: bytes) -> None:
    assert parse([empty + b"a\n" + empty + b"b\n" + empty], True, SMALL_LIMIT) == [b"a", b"b"]


def test_white_space_around_a_message_is_no_part_of_it() -> None:
    assert parse([b"  {} \r\n"], True, SMALL_LIMIT) == [b"{}"]


def test_an_end_in_mid_line_is_told_once() -> None:
    parser = LineParser()
    parser.receive_data(b'{"type":')
    assert parser.next_frame() is None
    parser.receive_eof()
    with pytest.raises(BadJson, match="in the middle of a line"):
        parser.next_frame()
    assert parser.next_frame() is None


@pytest.mark.parametrize("rest", [b"", b" ", b"\r"])
def test_an_end_between_lines_is_no_error(rest: bytes) -> None:
    assert parse([b"a\n" + rest], True, SMALL_LIMIT) == [b"a"]
