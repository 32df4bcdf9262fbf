"""What a person has edited is read, with whatever mark and line ends their editor has left in it."""

from pathlib import Path

import pytest

from evcharge.errors import UsageError
from evcharge.text_files import lines_of


@pytest.mark.parametrize(
    "content",
    [
        b"one\ntwo\n",
        b"one\ntwo",
        b"\xef\xbb\xbfone\ntwo\n",
        b"\xef\xbb\xbfone\r\ntwo\r\n",
        b"one\r\ntwo",
        b"one\rtwo\r",
    ],
)
def test_marks_and_line_ends_are_no_part_of_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    assert lines_of(path, "the list") == ["one", "two"]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"")
    assert lines_of(path, "the list") == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        ("secret ü".encode("latin-1"), "it is not UTF-8; save it as UTF-8"),
        ("secret".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_without_its_content(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        lines_of(path, "the list")
    assert str(refused.value) == f"the list {path} cannot be read: {why}"
