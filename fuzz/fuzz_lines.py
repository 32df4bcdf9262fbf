"""However bytes are cut up on their way, the same frames and errors come out, none over the limit."""

import sys
from itertools import pairwise

import atheris
from seeds import fuzz

with atheris.instrument_imports(include=["evcharge"]):
    from evcharge.errors import BadJson, LineTooLong
    from evcharge.protocol.lines import LineParser

LIMIT = 600
MOST_CUTS = 8


def drained(parser: LineParser) -> list[bytes | str]:
    out: list[bytes | str] = []
    while True:
        try:
            frame = parser.next_frame()
        except BadJson as error:
            out.append(error.code)
            continue
        except LineTooLong as error:
            return [*out, error.code]
        if frame is None:
            return out
        assert 0 < len(frame) <= LIMIT, len(frame)
        out.append(frame)


def parsed(pieces: list[bytes]) -> list[bytes | str]:
    parser = LineParser(LIMIT)
    out: list[bytes | str] = []
    for piece in pieces:
        parser.receive_data(piece)
        out += drained(parser)
        if LineTooLong.code in out:
            return out
    parser.receive_eof()
    return out + drained(parser)


def one(data: bytes) -> None:
    """The first bytes say where the others are cut."""
    count = data[0] % MOST_CUTS if data else 0
    cuts, stream = data[1 : 1 + 2 * count], data[1 + 2 * count :]
    places = sorted(int.from_bytes(cuts[i : i + 2]) % (len(stream) + 1) for i in range(0, len(cuts), 2))
    pieces = [stream[start:end] for start, end in pairwise([0, *places, len(stream)])]
    assert parsed(pieces) == parsed([stream])
    assert parsed([stream[at : at + 1] for at in range(len(stream))]) == parsed([stream])


fuzz(one, sys.argv)
