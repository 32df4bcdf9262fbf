"""docs/protocol.md says of messages, fields, codes and topics what the code says; a failure tells what to mend."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec import inspect

from evcharge.domain.faults import CONNECTION_LOST, ENGINE_LOST, ENGINE_SILENT
from evcharge.domain.routes import KAFKA_ROUTES, MONITOR_ROUTES
from evcharge.domain.session import CUT_SHORT, EndReason, SessionStatus
from evcharge.domain.status import Status
from evcharge.driver.service import LOOK_AT_TOPICS_EVERY_S, QUIET_S
from evcharge.engine.charger import NO_VERDICT
from evcharge.errors import WIRE_ERRORS
from evcharge.protocol.lines import MAX_LINE_BYTES
from evcharge.protocol.messages import (
    ID_PATTERN,
    MESSAGE_TYPES,
    CpInfo,
    Message,
    PastSession,
    Undecodable,
    decode,
    encode,
)
from evcharge.protocol.topics import Topic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
TEXT = PAGE.read_text("utf-8")
HERE = "docs/protocol.md"

ENVELOPE = ("type", "message_id", "timestamp")
ENUMS: dict[type, str] = {
    Status: "charge point state",
    SessionStatus: "session status",
    EndReason: "end reason",
}
NESTED: dict[str, type] = {"available_cps_response": CpInfo, "charging_history_response": PastSession}

Table = list[list[str]]


class Section(NamedTuple):
    level: int
    title: str
    body: str


def sections_of(text: str) -> list[Section]:
    parts = re.split(r"^(#+) (.+)\n", text, flags=re.M)
    return [Section(len(parts[i]), parts[i + 1].strip(), parts[i + 2]) for i in range(1, len(parts), 3)]


def tables_of(body: str) -> list[Table]:
    """The rows of each table, without its two lines of heading; each row as its cells."""
    found = re.findall(r"(?:^\|.*\n)+", body, re.M)
    return [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in t.splitlines()[2:]] for t in found
    ]


def named(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


SECTIONS = sections_of(TEXT)


def body_of(title: str) -> str:
    bodies = [section.body for section in SECTIONS if section.title == title]
    assert len(bodies) == 1, f"{HERE} needs exactly one section called '{title}', it has {len(bodies)}"
    return bodies[0]


def message_titles() -> list[str]:
    titles = [section.title for section in SECTIONS]
    begin, end = titles.index("Messages"), titles.index("Error codes")
    return [section.title for section in SECTIONS[begin + 1 : end] if section.level == 3]


def first_column(table: Table) -> list[str]:
    return [name for row in table for name in named(row[0])]


def assert_same(found: list[str], wanted: set[str], what: str) -> None:
    """`found` on the page, each once, is `wanted` by the code."""
    assert sorted(wanted - set(found)) == [], f"add these {what} to {HERE}"
    assert sorted(set(found) - wanted) == [], f"take these {what} out of {HERE}, the code has none such"
    assert [name for name, times in Counter(found).items() if times > 1] == [], f"{HERE} has these {what} twice"


# What a struct would have in its table


def type_text(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=types):
            (value,) = [type_text(part) for part in types if not isinstance(part, inspect.NoneType)]
            return f"{value} or null"
        case inspect.StrType(pattern=str() as pattern) if ID_PATTERN in pattern:
            return "id"
        case inspect.StrType(pattern=str() as pattern) if "0-9a-f" in pattern:
            return "string"
        case inspect.StrType(max_length=int()):
            return "text"
        case inspect.StrType(pattern=str()):
            return "currency"
        case inspect.StrType():
            return "string"
        case inspect.IntType(ge=least, le=most):
            return "integer" + _bound("from", least) + _bound("to", most)
        case inspect.FloatType(ge=least, le=most):
            return "number" + _bound("from", least) + _bound("to", most)
        case inspect.EnumType(cls=cls):
            return ENUMS[cls]
        case inspect.ListType(item_type=inspect.StructType()):
            return "list of objects"
        case inspect.ListType(item_type=item):
            return f"list of {type_text(item)}"
        case inspect.UUIDType():
            return "uuid"
        case inspect.DateTimeType(tz=True):
            return "time"
        case inspect.DecimalType():
            return "decimal"
        case inspect.BoolType():
            return "boolean"
        case _:
            raise AssertionError(f"say in test_protocol_page.py and under 'Types' of {HERE} what a {kind} is")


def _bound(word: str, limit: float | None) -> str:
    return "" if limit is None else f" {word} {limit}"


def default_text(field: inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"`{msgspec.json.encode(default).decode()}`"


def check_fields(table: Table, cls: type, where: str) -> None:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    outside = ENVELOPE if issubclass(cls, Message) else ()
    fields = {field.encode_name: field for field in info.fields if field.encode_name not in outside}
    assert_same(first_column(table), set(fields), f"fields of {where}")
    for cells in table:
        (name,) = named(cells[0])
        assert len(cells) == 4, (
            f"{HERE}, {where}: the row of `{name}` needs 4 cells: field, type, default, meaning"
        )
        assert cells[1] == type_text(fields[name].type), f"{HERE}, {where}: mend the type of `{name}`"
        assert cells[2] == default_text(fields[name]), f"{HERE}, {where}: mend the default of `{name}`"
        assert cells[3], f"{HERE}, {where}: say what `{name}` means"


# Messages


def test_every_link_leads_somewhere() -> None:
    targets = set(re.findall(r"\]\(([^)]+)\)", TEXT))
    anchors = {"#" + section.title.lower().replace(" ", "-") for section in SECTIONS}
    anchors |= {f"#{name}" for name in re.findall(r'<a id="([^"]+)">', TEXT)}
    broken = [target for target in targets - anchors if not (PAGE.parent / target).exists()]
    assert sorted(broken) == [], f"mend these links of {HERE}"


def test_every_message_has_one_section() -> None:
    assert_same(message_titles(), set(MESSAGE_TYPES), "sections '### TYPE' below 'Messages'")
    assert f"[{len(MESSAGE_TYPES)} types](#messages)" in TEXT, f"mend the number of types in 'Envelope' of {HERE}"


def test_the_index_links_to_every_message() -> None:
    (index,) = tables_of(body_of("Messages"))
    assert_same(first_column(index), set(MESSAGE_TYPES), "rows of the index of messages")
    for cells in index:
        (name,) = named(cells[0])
        assert cells[0] == f"[`{name}`](#{name})", f"{HERE}: let the index link `{name}` to its section"
        assert all(answer in MESSAGE_TYPES for answer in named(cells[3])), f"{HERE}: mend the answer to `{name}`"


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_the_example_of_a_message_is_one(name: str) -> None:
    examples = re.findall(r"^```json\n(.*?)^```$", body_of(name), re.M | re.S)
    assert len(examples) == 1, f"{HERE}, {name}: there must be exactly one ```json block"
    try:
        message = decode(examples[0].encode())
    except Undecodable as bad:
        pytest.fail(f"{HERE}, {name}: mend the example: {bad}")
    assert type(message) is MESSAGE_TYPES[name], f"{HERE}, {name}: the example is of another type"
    sent, shown = json.loads(encode(message)), json.loads(examples[0])
    assert shown == sent, f"{HERE}, {name}: the example must be as evcharge would send it, with all its fields"


def test_the_envelope_is_what_every_message_has() -> None:
    (table,) = tables_of(body_of("Envelope"))
    assert_same(first_column(table), set(ENVELOPE), "fields of the envelope")
    assert {field.encode_name for field in msgspec.structs.fields(Message)} == set(ENVELOPE) - {"type"}
    for cells in table:
        assert cells[2] == "required", f"{HERE}: every field of the envelope is required"


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_the_table_of_a_message_has_its_fields(name: str) -> None:
    tables = tables_of(body_of(name))
    expected = 2 if name in NESTED else 1
    assert len(tables) == expected, f"{HERE}, {name}: there must be {expected} tables of fields"
    check_fields(tables[0], MESSAGE_TYPES[name], name)
    if name in NESTED:
        check_fields(tables[1], NESTED[name], f"the entries of {name}")


def test_every_type_of_a_field_is_explained() -> None:
    (table,) = tables_of(body_of("Types"))
    explained = {cells[0] for cells in table}
    used = {cells[1] for name in MESSAGE_TYPES for fields in tables_of(body_of(name)) for cells in fields}
    # "list of uuid", "integer from 0 to 9 or null" and so on are made of the words of the table.
    words = {re.sub(r" (from|or) .*| of .*", "", text) for text in used} - set(ENUMS.values())
    assert sorted(words - explained) == [], f"explain these under 'Types' of {HERE}"


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Charge point state", set(Status)),
        ("Session status", set(SessionStatus)),
        ("End reason", set(EndReason)),
    ],
)
def test_every_value_of_an_enumeration_is_explained(title: str, wanted: set[str]) -> None:
    (table,) = tables_of(body_of(title))
    assert_same(first_column(table), {str(value) for value in wanted}, f"values of '{title}'")


# Codes, topics, links


def test_the_code_table_has_every_code() -> None:
    (table,) = tables_of(body_of("Error codes"))
    assert_same(first_column(table), set(WIRE_ERRORS), "error codes")
    for cells in table:
        assert len(cells) == 4, f"{HERE}: the code {cells[0]} needs 4 cells: code, when, what to do, closes"
        assert all(cells), f"{HERE}: a cell of the code {cells[0]} is empty"


def test_the_topics_are_named_with_what_central_takes_from_them() -> None:
    table = tables_of(body_of("Kafka"))[0]
    assert_same(first_column(table), {str(topic) for topic in Topic}, "topics")
    for cells in table:
        topic = Topic(named(cells[0])[0])
        if topic in KAFKA_ROUTES:
            taken = {str(cls.__struct_config__.tag) for cls in KAFKA_ROUTES[topic]}
            assert_same(named(cells[3]), taken, f"messages of the topic {topic}")


def test_what_a_monitor_may_send_is_what_central_takes() -> None:
    table = tables_of(body_of("Central and Monitor"))[0]
    taken = {str(cls.__struct_config__.tag) for cls in MONITOR_ROUTES}
    assert_same(first_column(table), taken, "messages from Monitor to Central")


@pytest.mark.parametrize(
    ("type_name", "field", "taken", "refused"),
    [
        ("decimal", "price_per_kwh", ["0.30"], ["+0.30", "3e-1", ".5", "1_0"]),
        ("time", "timestamp", ["2026-03-02T14:05:00.250000Z"], ["2026-03-02T14:05Z"]),
        ("uuid", "message_id", ["6fa459ea-ee8a-4ca4-894e-db77e160355e"], []),
    ],
)
def test_what_the_page_says_of_a_notation_is_what_is_read(
    type_name: str, field: str, taken: list[str], refused: list[str]
) -> None:
    (words,) = [cells[1] for cells in tables_of(body_of("Types"))[0] if cells[0] == type_name]
    (example,) = re.findall(r"^```json\n(.*?)^```$", body_of("register_request"), re.M | re.S)
    for text in taken + refused:
        assert f'"{text}"' in words, f"{HERE}, Types: say whether {text} is a {type_name}"
        line = json.dumps(json.loads(example) | {field: text}).encode()
        if text in taken:
            decode(line)
        else:
            with pytest.raises(Undecodable, match=f"`{field}` must be"):
                decode(line)


def test_partitions_are_looked_at_and_silence_ends_as_the_page_says() -> None:
    assert f"look again every {LOOK_AT_TOPICS_EVERY_S:g} s" in body_of("Kafka")
    assert QUIET_S <= 30, f"{HERE}: a driver asks after a silence of 30 s"
    assert "heard nothing of its charge for 30 s asks" in body_of("Kafka")


def test_what_ends_the_repeating_of_a_completion_is_what_ends_it_in_the_engine() -> None:
    only = re.search(r"These alone say nothing about it: (.*?)\n\n", body_of("Refused completions"), re.S)
    assert only is not None
    assert set(named(only[1])) == NO_VERDICT


def test_the_reasons_with_which_the_higher_reading_stands_are_named() -> None:
    rule = re.search(r"after (`.*?) the higher reading stands", body_of("Receipts"), re.S)
    assert rule is not None
    assert set(named(rule[1])) == {str(reason) for reason in CUT_SHORT}


def test_the_faults_of_its_own_and_the_limit_of_a_line_are_named() -> None:
    reserved = first_column(tables_of(body_of("Faults"))[0])
    assert_same(reserved, {CONNECTION_LOST, ENGINE_LOST, ENGINE_SILENT}, "fault codes")
    assert f"{MAX_LINE_BYTES:,} bytes" in body_of("Framing"), f"mend the limit of a line in 'Framing' of {HERE}"
