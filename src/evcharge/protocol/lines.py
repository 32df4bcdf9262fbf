"""One frame a line: an incremental parser with a size limit, which never touches a socket.

Feed it with `receive_data` and `receive_eof`, then take frames with `next_frame` until that gives None.
"""

from evcharge.errors import BadJson, LineTooLong

MAX_LINE_BYTES = 64 * 1024


class LineParser:
    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._eof = False
        self.lines = 0
        """That have been read, the empty ones too."""

    def receive_data(self, data: bytes) -> None:
        self._buffer += data

    def receive_eof(self) -> None:
        self._eof = True

    def next_frame(self) -> bytes | None:
        """The next line without its end; None when more data is needed, or when all has been taken.

        Empty lines are skipped. Raises `LineTooLong` for a line over the limit, for good: where the next
        message would begin can no longer be told. Raises `BadJson` once if the peer closed in mid-line.
        """
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if (end if end >= 0 else len(self._buffer)) > self._max_line_bytes:
                raise LineTooLong(f"a line may have at most {self._max_line_bytes} bytes")
            if end < 0:
                self._searched = len(self._buffer)
                self._check_end()
                return None
            frame = bytes(self._buffer[:end]).strip()
            del self._buffer[: end + 1]
            self._searched = 0
            self.lines += 1
            if frame:
                return frame

    def _check_end(self) -> None:
        if self._eof and self._buffer.strip():
            self._buffer.clear()
            self._searched = 0
            raise BadJson("the connection was closed in the middle of a line")
