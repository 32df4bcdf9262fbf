"""`--trace`: what crossed a wire, a JSON line each, without secrets."""

from __future__ import annotations

import json
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import capturing_log, silent_log

from evcharge.errors import EnvironmentFault
from evcharge.protocol.messages import AuthRequest, encode
from evcharge.transport.trace import Trace

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("key"), inner),
    max_leaves=5,
)


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_frame_is_a_json_line_with_direction_peer_and_time(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    Trace(tmp_path / "t", silent_log()).frame("in", "10.0.0.7:4711", b'{"type":"heartbeat_request","cp_id":"A"}')
    (line,) = lines_of(tmp_path / "t")
    assert before <= datetime.fromisoformat(line.pop("at")) <= datetime.now(UTC)
    assert line == {
        "direction": "in",
        "peer": "10.0.0.7:4711",
        "message": {"type": "heartbeat_request", "cp_id": "A"},
    }


@pytest.mark.parametrize("key", ["CP001", None])
def test_a_record_is_a_json_line_with_topic_and_key(tmp_path: Path, key: str | None) -> None:
    Trace(tmp_path / "t", silent_log()).record("out", "charging_session_data", key, b'{"seq":3}')
    (line,) = lines_of(tmp_path / "t")
    del line["at"]
    assert line == {"direction": "out", "topic": "charging_session_data", "key": key, "message": {"seq": 3}}


def test_the_key_of_a_charge_point_is_masked(tmp_path: Path) -> None:
    request = AuthRequest(message_id=uuid4(), timestamp=datetime.now(UTC), cp_id="A", key="s3cret")
    Trace(tmp_path / "t", silent_log()).frame("out", "x:1", encode(request))
    assert "s3cret" not in (tmp_path / "t").read_text()
    assert lines_of(tmp_path / "t")[0]["message"]["key"] == "***"


@pytest.mark.parametrize("secret", ['"s3cret"', '["s3cret"]', '{"a":"s3cret"}', '"\\u00733cret"'])
def test_a_key_is_masked_whatever_it_is(tmp_path: Path, secret: str) -> None:
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", b'{"type":"nonsense","key":' + secret.encode() + b"}")
    assert "3cret" not in (tmp_path / "t").read_text()


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"auth_request","key":"s3cret"',  # cut off
        b'{"type":"auth_request","key":"s3cret","x":1e400}',  # JSON, but no number that Python has
        b'{"type":"auth_request","key":"s3cret"} {}',
    ],
)
def test_a_key_is_masked_in_what_is_shown_as_text_too(tmp_path: Path, data: bytes) -> None:
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", data)
    assert "s3cret" not in (tmp_path / "t").read_text()


@pytest.mark.parametrize(
    "message",
    [
        b'{"Key":"s3cret"}',
        b'{"a":[{"b":{"KEY":"s3cret"}}]}',
        b'[{"key":["s3cret"]}]',
        b'{"password":"s3cret"}',
        b'{"access_token":{"x":"s3cret"}}',
        b'{"Authorization":"Bearer s3cret"}',
        b'{"client_secret":"s3cret"}',
        b'{"reason":"sent Authorization: Bearer s3cret"}',
        b'{"reason":"{\\"key\\": \\"s3cret\\"}"}',
        b'"bearer s3cret"',
        b'{"k\\u0065y":"s3cret"}',
    ],
)
def test_a_secret_is_masked_at_any_depth_and_by_any_spelling(tmp_path: Path, message: bytes) -> None:
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", message)
    assert "s3cret" not in (tmp_path / "t").read_text()
    assert "***" in (tmp_path / "t").read_text()


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer s3cret\r",
        b"authorization: basic s3cret",
        b"GET /v1/totals?token=s3cret HTTP/1.1",
        b"x-api-key: s3cret",
        b"{'key': 's3cret'}",
        b'{"KEY":"s3cret"',
        b'{"k\\u0065y":"s3cret"',
        b"password=s3cret",
    ],
)
def test_a_secret_that_was_sent_to_the_wrong_port_is_not_shown(tmp_path: Path, line: bytes) -> None:
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", line)
    shown = lines_of(tmp_path / "t")[0]["message"]
    assert shown == f"({len(line)} bytes that are no message and may hold a key)"


def test_words_about_keys_are_no_secrets(tmp_path: Path) -> None:
    reason = "there is no charge point A, or its key is another"
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", json.dumps({"reason": reason}).encode())
    assert lines_of(tmp_path / "t")[0]["message"] == {"reason": reason}


def test_a_trace_is_for_its_owner_alone(tmp_path: Path) -> None:
    Trace(tmp_path / "t", silent_log())
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o600


def test_an_empty_key_is_shown_as_what_it_is(tmp_path: Path) -> None:
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", b'{"key":""}')
    assert lines_of(tmp_path / "t")[0]["message"] == {"key": ""}


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", ""),
        (b"nonsense", "nonsense"),
        (b"\x1b[31mred", "\x1b[31mred"),
        (b"\xff\xfe{", "\\xff\\xfe{"),
        (b'{"a":"\xff"}', '{"a":"\\xff"}'),
        (b"[1,", "[1,"),
        (b"[1,2]", [1, 2]),
        (b'"text"', "text"),
        (b"null", None),
        (b"7", 7),
    ],
)
def test_what_is_no_message_is_shown_as_text(tmp_path: Path, data: bytes, shown: object) -> None:
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", data)
    assert lines_of(tmp_path / "t")[0]["message"] == shown
    assert (tmp_path / "t").read_bytes().rstrip(b"\n").decode().isprintable()


def test_any_bytes_can_be_shown(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t", silent_log())
    count = 0

    @given(st.binary(max_size=100) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
    def check(data: bytes) -> None:
        nonlocal count
        trace.frame("in", "x:1", data)
        count += 1

    check()
    assert len(lines_of(tmp_path / "t")) == count


def test_depth_is_no_weapon(tmp_path: Path) -> None:
    data = b"[" * 30_000 + b"]" * 30_000
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", data)
    assert lines_of(tmp_path / "t")[0]["message"] == data.decode()


def test_a_trace_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"before":1}\n')
    Trace(tmp_path / "t", silent_log()).frame("in", "x:1", b"{}")
    assert lines_of(tmp_path / "t")[0] == {"before": 1}
    assert len(lines_of(tmp_path / "t")) == 2


def test_lines_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t", silent_log())
    data = b'{"x":"' + b"y" * 5000 + b'"}'

    def write() -> None:
        for _ in range(50):
            trace.frame("in", "x:1", data)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines_of(tmp_path / "t")) == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_costs_lines_and_nothing_else_and_is_told_once() -> None:
    log, said = capturing_log()
    trace = Trace(Path("/dev/full"), log)
    for _ in range(3):
        trace.frame("in", "x:1", b"{}")
    assert said() == ["trace_unwritable"]


@pytest.mark.parametrize("path", ["no/such/folder/t", "."])
def test_a_trace_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path, path: str) -> None:
    with pytest.raises(EnvironmentFault, match=r"the trace .* cannot be written: (No such file|Is a directory)"):
        Trace(tmp_path / path, silent_log())
