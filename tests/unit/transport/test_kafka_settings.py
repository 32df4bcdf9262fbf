"""The file of `--kafka-config`: what it may say, and that no error quotes what may be a password."""

from pathlib import Path

import pytest
from confluent_kafka import Producer

from evcharge.errors import UsageError
from evcharge.transport.kafka_settings import OURS, KafkaAccess, read_settings

SECRET = "s3cret"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kafka.properties"


def refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        KafkaAccess("localhost:1", read_settings(path)).client(Producer, {"bootstrap.servers": "localhost:1"})
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_line_each_with_comments_and_blanks(path: Path) -> None:
    path.write_text(f"# who we are\n\n  sasl.username = central \nsasl.password=a=b#{SECRET}\n  # end\n")
    assert read_settings(path) == {"sasl.username": "central", "sasl.password": f"a=b#{SECRET}"}


def test_what_an_editor_on_windows_leaves_in_the_file_is_no_part_of_a_setting(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf# ours\r\nsasl.username=central\r\nsasl.password=s3cret")
    assert read_settings(path) == {"sasl.username": "central", "sasl.password": SECRET}


def test_the_settings_reach_the_client_and_win_over_our_wishes(path: Path) -> None:
    path.write_text("linger.ms=7\n")
    taken: list[dict[str, object]] = []
    KafkaAccess("localhost:1", read_settings(path)).client(taken.append, {"linger.ms": 1, "acks": "all"})
    assert taken == [{"linger.ms": "7", "acks": "all"}]


@pytest.mark.parametrize("name", ["security.protocol", "sasl.mechanism", "linger.ms"])
def test_what_the_library_does_not_take_is_not_quoted(path: Path, name: str) -> None:
    why = refused(path, f"security.protocol=SASL_PLAINTEXT\n{name}={SECRET}\n")
    assert why.startswith("--kafka-config does not work: ")


def test_an_access_is_shown_without_its_settings() -> None:
    access = KafkaAccess("localhost:1", {"sasl.password": SECRET})
    assert SECRET not in f"{access} {access!r}"
    assert str(access) == "localhost:1"


@pytest.mark.parametrize("name", [*sorted(OURS), "error_cb"])
def test_what_is_ours_is_refused_with_its_line(path: Path, name: str) -> None:
    why = refused(path, f"socket.timeout.ms=1000\n{name}={SECRET}\n")
    assert why == f"{path}, line 2: {name} is for evcharge itself to set; take the line out"


@pytest.mark.parametrize("line", [SECRET, f"={SECRET}", f"sasl password {SECRET}", f"{SECRET}!=x"])
def test_a_line_that_is_none_is_named_and_not_quoted(path: Path, line: str) -> None:
    assert refused(path, f"{line}\n").startswith(f"{path}, line 1: expected name=value")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"sasl.pasword={SECRET}", 'No such configuration property: "sasl.pasword"'),
        (f"socket.timeout.ms={SECRET}", 'Invalid value for configuration property "socket.timeout.ms"'),
        ("security.protocol=SSL\nssl.ca.location=/nowhere/ca.pem", "ssl.ca.location failed"),
        ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN", "sasl.username and sasl.password must be set"),
    ],
)
def test_what_the_library_does_not_take_is_one_sentence(path: Path, line: str, why: str) -> None:
    said = refused(path, line)
    assert said.startswith("--kafka-config does not work: ")
    assert why in said


def test_a_file_that_is_not_there_or_no_text_is_named(path: Path) -> None:
    with pytest.raises(UsageError, match=f"the Kafka settings {path} cannot be read: No such file"):
        read_settings(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is UTF-16; save it as UTF-8"):
        read_settings(path)
