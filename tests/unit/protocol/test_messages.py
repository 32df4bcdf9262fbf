"""What crosses a wire: every message comes back as it went, and no bytes at all do more than to be refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from evcharge import errors
from evcharge.domain.instant import Instant
from evcharge.errors import WIRE_ERRORS, BadMessage, UnexpectedType, WireError
from evcharge.protocol.currencies import CODES
from evcharge.protocol.messages import (
    MESSAGE_TYPES,
    AnyMessage,
    ChargeCompletionResponse,
    ChargingData,
    ErrorResponse,
    HeartbeatRequest,
    Message,
    RegisterRequest,
    StatusUpdate,
    Undecodable,
    decode,
    derived_id,
    encode,
    error_response,
    is_id,
    is_new_id,
    new_id,
    refusal,
    shown,
    type_name,
)

NAMES = sorted(MESSAGE_TYPES)
AN_ID = "8b7c1c80-1111-4111-8111-000000000001"
AT = "2026-01-01T00:00:00Z"


# Strategies, from the structs themselves


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.UUIDType():
            return st.uuids()
        case inspect.DateTimeType():
            zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))])
            return st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=zones)
        case inspect.StrType(pattern=r"\A[A-Z]{3}\Z"):
            return st.sampled_from(CODES)
        case inspect.StrType(pattern=str() as pattern):
            return st.from_regex(pattern, fullmatch=True)
        case inspect.StrType(max_length=longest):
            return st.text(max_size=min(longest or 20, 20)) | st.just("é" * (longest or 20))
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=least, le=most):
            return st.integers(least, most if most is not None else 2**53)
        case inspect.FloatType(ge=least, le=most):
            return st.floats(least, most)
        case inspect.DecimalType():
            return st.decimals(0, 1000, places=2)  # for a price and for a cost
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType(types=types):
            return st.one_of(*(values_of(one) for one in types))
        case inspect.ListType(item_type=item):
            return st.lists(values_of(item), max_size=3)
        case inspect.StructType(cls=cls):
            return structs(cls)
        case _:
            raise NotImplementedError(f"no strategy for {kind}")


def structs(cls: type[Any]) -> st.SearchStrategy[Any]:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    required = {field.name: values_of(field.type) for field in kind.fields if field.required}
    optional = {field.name: values_of(field.type) for field in kind.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: cls(**fields))


STRATEGIES: dict[str, st.SearchStrategy[Message]] = {name: structs(cls) for name, cls in MESSAGE_TYPES.items()}
MESSAGES = st.sampled_from(NAMES).flatmap(STRATEGIES.__getitem__)

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from([AN_ID, AT, "", "..", "\x1b[31m", "A\n", "NaN", "-1", *NAMES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def as_dict(message: Message) -> dict[str, Any]:
    fields = json.loads(encode(message))
    assert isinstance(fields, dict)
    return fields


def as_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def refused(data: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode(data)
    return caught.value


def decoded(data: bytes) -> Message | Undecodable:
    try:
        return decode(data)
    except Undecodable as bad:
        return bad


# Every message


def test_there_are_29_messages_and_none_is_forgotten() -> None:
    def leaves(cls: type[Any]) -> set[type[Any]]:
        children = cls.__subclasses__()
        return set().union(*(leaves(child) for child in children)) if children else {cls}

    assert len(MESSAGE_TYPES) == 29
    assert set(MESSAGE_TYPES.values()) == leaves(Message) == set(get_args(AnyMessage))


def test_the_seeds_names_are_all_there() -> None:
    of_the_seed = """
        auth_request auth_response register_request register_response heartbeat_request heartbeat_response
        status_update fault_notification start_charging_command stop_charging_command charging_data
        init_cp_id health_check_request health_check_response charge_completion
        charge_request charging_status_update charge_completion_response
    """
    assert set(of_the_seed.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_type_is_called_as_its_class(name: str) -> None:
    assert name == re.sub(r"(?<!^)(?=[A-Z])", "_", MESSAGE_TYPES[name].__name__).lower()


@pytest.mark.parametrize("name", NAMES)
def test_every_message_comes_back_as_it_went(name: str) -> None:
    @settings(max_examples=15)
    @given(STRATEGIES[name])
    def check(message: Message) -> None:
        data = encode(message)
        back = decode(data)
        assert back == message
        assert type(back) is MESSAGE_TYPES[name]
        assert type_name(back) == name
        assert b"\n" not in data
        assert json.loads(data)["type"] == name

    check()


@pytest.mark.parametrize("name", NAMES)
def test_unknown_fields_are_ignored(name: str) -> None:
    @settings(max_examples=10)
    @given(STRATEGIES[name], JSON_VALUES)
    def check(message: Message, value: object) -> None:
        assert decode(as_bytes(as_dict(message) | {"a_field_of_tomorrow": value, "": value})) == message

    check()


@pytest.mark.parametrize("name", NAMES)
def test_every_missing_field_that_is_needed_is_refused_with_its_name(name: str) -> None:
    @settings(max_examples=2)
    @given(STRATEGIES[name])
    def check(message: Message) -> None:
        fields = as_dict(message)
        for field in msgspec.structs.fields(MESSAGE_TYPES[name]):
            if field.required:
                bad = refused(as_bytes({key: value for key, value in fields.items() if key != field.name}))
                assert bad.error.code == "invalid_field"
                assert f"`{field.name}`" in str(bad)

    check()


# Bytes that are no message


@given(st.binary(max_size=200))
def test_random_bytes_are_bad_json_or_lack_a_type(data: bytes) -> None:
    bad = refused(data)
    assert bad.error.code in ("bad_json", "invalid_field")
    assert bad.message_id is None


@given(JSON_VALUES)
def test_random_json_is_refused_with_the_right_code(value: object) -> None:
    expected = "bad_json" if not isinstance(value, dict) else "invalid_field"
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        expected = "invalid_field" if value["type"] in MESSAGE_TYPES else "unknown_type"
    assert refused(as_bytes(value)).error.code == expected


@settings(max_examples=300)
@given(MESSAGES, st.data())
def test_a_mutated_message_is_taken_or_refused_with_the_right_code(message: Message, data: st.DataObject) -> None:
    fields = as_dict(message)
    for key in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        if data.draw(st.booleans()):
            fields[key] = data.draw(JSON_VALUES)
        else:
            fields.pop(key, None)
    result = decoded(as_bytes(fields))
    if isinstance(result, Message):
        assert type_name(result) == fields["type"]
        assert decode(encode(result)) == result
        return
    if not isinstance(fields.get("type"), str) or fields["type"] in MESSAGE_TYPES:
        assert result.error.code == "invalid_field"
    else:
        assert result.error.code == "unknown_type"
    assert result.message_id == uuid_or_none(fields.get("message_id"))
    driver_id = fields.get("driver_id")
    assert result.driver_id == (driver_id if is_id(driver_id) else None)
    assert str(result) == str(result.error)


def uuid_or_none(value: object) -> UUID | None:
    return (
        UUID(value)
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value)
        else None
    )


@settings(max_examples=300)
@given(MESSAGES, st.data())
def test_a_message_with_other_bytes_is_taken_or_refused(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    result = decoded(bytes(raw))
    if isinstance(result, Undecodable):
        assert isinstance(result.error, BadMessage)
        assert result.error.code in ("bad_json", "unknown_type", "invalid_field")
        if result.error.code == "bad_json":
            assert (result.message_id, result.driver_id) == (None, None)


@pytest.mark.parametrize("depth", [100, 30_000])
@pytest.mark.parametrize("before", [b"[", b'{"a":', b'{"type":', b'{"type":"heartbeat_request","x":'])
def test_depth_is_no_weapon(before: bytes, depth: int) -> None:
    assert refused(before + b"[" * depth).error.code == "bad_json"


@pytest.mark.parametrize("depth", [100, 20_000])
def test_a_whole_message_however_deep_is_taken_or_refused(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    data = b'{"type":"heartbeat_request","message_id":"%s","timestamp":"%s","cp_id":"A","x":%s}'
    assert isinstance(decoded(data % (AN_ID.encode(), AT.encode(), deep)), HeartbeatRequest | Undecodable)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_json"),
        (b"null", "bad_json"),
        (b"[]", "bad_json"),
        (b'"heartbeat_request"', "bad_json"),
        (b"{}{}", "bad_json"),
        (b'{"type":"heartbeat_request"', "bad_json"),
        (b'{"type":NaN}', "bad_json"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b"{}", "invalid_field"),
        (b'{"type":null}', "invalid_field"),
        (b'{"type":["heartbeat_request"]}', "invalid_field"),
        (b'{"type":""}', "unknown_type"),
        (b'{"type":"HEARTBEAT_REQUEST"}', "unknown_type"),
        (b'{"type":"message"}', "unknown_type"),
        (b'{"type":"heartbeat_request"}', "invalid_field"),
        (b'{"type":"auth_request","key":"\xff"}', "bad_json"),
    ],
)
def test_each_fault_has_its_code(data: bytes, code: str) -> None:
    assert refused(data).error.code == code


def test_what_can_be_read_of_a_bad_message_is_told() -> None:
    known = refused(as_bytes({"type": "charge_request", "message_id": AN_ID, "driver_id": "D1"}))
    assert (known.message_id, known.driver_id) == (UUID(AN_ID), "D1")
    unknown = refused(as_bytes({"type": "nonsense", "message_id": AN_ID, "driver_id": "no id"}))
    assert (unknown.message_id, unknown.driver_id) == (UUID(AN_ID), None)
    neither = refused(as_bytes({"type": "charge_request", "message_id": 7, "driver_id": 7}))
    assert (neither.message_id, neither.driver_id) == (None, None)


@pytest.mark.parametrize("bad", [b"\xff", b"caf\xe9", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize(
    "where", [b'"a_field_of_tomorrow": "?"', b'"?": 1', b'"a": {"b": ["?"]}', b'"type": "?"', b'"location": "?"']
)
def test_what_is_not_utf8_is_bad_json_wherever_it_stands(where: bytes, bad: bytes) -> None:
    problem = refused(b"{" + where.replace(b"?", bad) + b", " + register().removeprefix(b"{"))
    assert problem.error.code == "bad_json"
    assert "UTF-8" in str(problem)


def test_what_is_utf8_is_taken_in_a_field_of_tomorrow() -> None:
    assert decode(as_bytes(json.loads(register()) | {"a": "é", "b": "\U0001f50c"}))
    assert decode(b'{"a": "\xf0\x9f\x94\x8c", ' + register().removeprefix(b"{"))


OF_PYTHON = re.compile(
    r"\$|regex|\\A|\\Z|\b(?:str|int|float|bool|dict|datetime|NoneType|Expected|Object|got|msgspec|Enum|enum)\b"
)
"""What no sentence for a peer has, whatever its program is written in."""


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_is_a_sentence_in_the_words_of_the_page(name: str) -> None:
    fields = msgspec.structs.fields(MESSAGE_TYPES[name])

    @settings(max_examples=30)
    @given(STRATEGIES[name], st.sampled_from(fields), JSON_VALUES.filter(lambda value: not isinstance(value, str)))
    def check(message: Message, field: msgspec.structs.FieldInfo, value: object) -> None:
        result = decoded(as_bytes(as_dict(message) | {field.encode_name: value}))
        if isinstance(result, Undecodable):
            assert result.error.code == "invalid_field"
            assert re.match(rf"{name}: (in )?`{field.encode_name}", str(result))
            assert not OF_PYTHON.search(str(result)), str(result)

    check()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("cp_id", "a b", "`cp_id` must be an id, of 1 to 64 of the characters A-Z a-z 0-9 . _ : -"),
        (
            "location",
            "a\x07",
            "`location` must be a text of at most 500 characters, none of them a control character",
        ),
        ("currency", "euro", "`currency` must be a currency, three capital letters such as EUR"),
        ("price_per_kwh", "1_0", '`price_per_kwh` must be a decimal in plain notation such as "0.30"'),
        (
            "price_per_kwh",
            "2000",
            "`price_per_kwh` must be a number from 0 to 1000, of at most 6 decimals, in plain notation",
        ),
        ("max_power_w", 1.5, "`max_power_w` must be an integer from 0 to 100000000"),
        (
            "message_id",
            "{" + AN_ID + "}",
            "`message_id` must be a UUID such as 6fa459ea-ee8a-4ca4-894e-db77e160355e",
        ),
        (
            "timestamp",
            "2026-01-01T00:00Z",
            "`timestamp` must be a time with seconds and a time zone such as 2026-03-02T14:05:00Z",
        ),
    ],
)
def test_a_refusal_names_field_and_form(field: str, value: object, sentence: str) -> None:
    assert str(refused(register(**{field: value}))) == f"register_request: {sentence}"


def test_a_refusal_of_what_is_missing_says_so() -> None:
    fields = json.loads(register())
    del fields["currency"]
    assert str(refused(as_bytes(fields))) == "register_request: `currency` is missing"


@pytest.mark.parametrize("written", [AN_ID.upper(), AN_ID.replace("-", "")])
def test_a_uuid_is_the_same_however_it_is_written(written: str) -> None:
    assert decode(register(message_id=written)) == decode(register())


# Fields


def register(**changes: object) -> bytes:
    return as_bytes(
        {
            "type": "register_request",
            "message_id": AN_ID,
            "timestamp": AT,
            "cp_id": "CP001",
            "location": "here",
            "price_per_kwh": "0.30",
            "currency": "EUR",
            "max_power_w": 22000,
        }
        | changes
    )


def reading(**changes: object) -> bytes:
    return as_bytes(
        {
            "type": "charging_data",
            "message_id": AN_ID,
            "timestamp": AT,
            "cp_id": "CP001",
            "session_id": AN_ID,
            "driver_id": "D1",
            "seq": 0,
            "energy_wh": 0,
            "power_w": 0,
        }
        | changes
    )


@pytest.mark.parametrize("cp_id", ["A", "a.b_c:d-9", "..", "STATION:1", "x" * 64])
def test_ids(cp_id: str) -> None:
    message = decode(register(cp_id=cp_id))
    assert isinstance(message, RegisterRequest)
    assert message.cp_id == cp_id
    assert is_id(cp_id)


@pytest.mark.parametrize(
    "cp_id", ["", "x" * 65, "a b", "a\n", "\na", "a/b", "é", "a\x00", "\x1b[31m", "١", "a;b", None, 7, ["A"], True]
)
def test_what_is_no_id_is_refused(cp_id: object) -> None:
    bad = refused(register(cp_id=cp_id))
    assert bad.error.code == "invalid_field"
    assert "`cp_id`" in str(bad)
    assert not is_id(cp_id)


@given(st.text(max_size=70) | st.binary(max_size=4) | st.integers() | st.none() | st.lists(st.text(), max_size=2))
def test_an_id_is_what_the_pattern_says(value: object) -> None:
    assert is_id(value) == (isinstance(value, str) and re.fullmatch("[A-Za-z0-9._:-]{1,64}", value) is not None)


@pytest.mark.parametrize("name", [".", "..", "...", "." * 64, "-", "-x", "--all"])
def test_what_a_path_or_a_command_line_would_take_for_something_else_is_no_new_id(name: str) -> None:
    assert is_id(name), "an older one goes on"
    assert not is_new_id(name)


@pytest.mark.parametrize("name", ["", "a\n", "..\n", "x" * 65, "é"])
def test_what_is_no_id_is_no_new_one(name: str) -> None:
    assert not is_new_id(name)


@pytest.mark.parametrize("name", ["A", ".a", "a.", "..a", "a-", "_", ":", "x" * 64, "all"])
def test_new_ids(name: str) -> None:
    assert is_new_id(name)


@pytest.mark.parametrize("price", ["0", "0.30", "1000", "0.123456", "1000.000000", "0.000001", "007.50"])
def test_prices(price: str) -> None:
    message = decode(register(price_per_kwh=price))
    assert isinstance(message, RegisterRequest)
    assert message.price_per_kwh == Decimal(price)


@pytest.mark.parametrize(
    "price",
    [
        "NaN",
        "sNaN",
        "-NaN12",
        "Infinity",
        "-Infinity",
        "-0.01",
        "-1E-6",
        "1000.000001",
        "0.1234567",
        "1E-7",
        "1E+999999999",
        "1E-999999999",
        "-1E+999999999",
        "1e99999999999999999999",
        "0." + "1" * 60_000,
        "9" * 60_000,
        "",
        "free",
        "0,30",
        "0.30 EUR",
        True,
        None,
        [],
        -1,
        1001,
        1e300,
        0.1234567,
        "1_0",
        "\u0660.\u0663",
        "\uff11",
        " 0.30",
        "0.30 ",
        "0.30\n",
        ".5",
        "5.",
        "+0.30",
        "3e-1",
        "1E+2",
        "0E-3",
        "0x1",
    ],
)
def test_what_is_no_price_is_refused(price: object) -> None:
    bad = refused(register(price_per_kwh=price))
    assert bad.error.code == "invalid_field"
    assert bad.message_id == UUID(AN_ID)
    assert "price_per_kwh" in str(bad)


@pytest.mark.parametrize("price", [b"3e-1", b"1E2", b"0e0"])
def test_a_price_that_is_a_number_has_no_exponent_either(price: bytes) -> None:
    bad = refused(register(price_per_kwh=1).replace(b'"price_per_kwh": 1', b'"price_per_kwh": ' + price))
    assert bad.error.code == "invalid_field"
    assert re.search("`price_per_kwh` must be .* in plain notation", str(bad))


@pytest.mark.parametrize("written", ['"0.30"', "0.30", '"0\\u002e30"', '"00.30"'])
def test_a_price_in_plain_notation_is_taken_however_json_writes_it(written: str) -> None:
    message = decode(register(price_per_kwh="?").replace(b'"?"', written.encode()))
    assert isinstance(message, RegisterRequest)
    assert message.price_per_kwh == Decimal("0.30")


@pytest.mark.parametrize("field", ["price_per_kwh", "cost"])
def test_money_in_a_list_is_in_plain_notation_too(field: str) -> None:
    session = {
        "session_id": AN_ID,
        "cp_id": "CP001",
        "status": "completed",
        "end_reason": "stopped",
        "energy_wh": 0,
        "price_per_kwh": "0.30",
        "cost": "0.00",
        "currency": "EUR",
        "requested_at": AT,
        "ended_at": AT,
        "revision": 1,
    }
    head = {"type": "charging_history_response", "message_id": AN_ID, "timestamp": AT, "driver_id": "D1"}
    assert decode(as_bytes(head | {"sessions": [session]}))
    bad = refused(as_bytes(head | {"sessions": [session, session | {field: "+1.00"}]}))
    assert f"`sessions[1].{field}` must be a decimal in plain notation" in str(bad)


@pytest.mark.parametrize("value", [5, {"price_per_kwh": "3e-1"}, ["x"], "3e-1"])
def test_a_name_that_means_money_elsewhere_may_hold_anything_where_it_is_unknown(value: object) -> None:
    assert decode(register(cost=value, sessions=value, charge_points=value))


@pytest.mark.parametrize("price", ["0.3" + "0" * 60_000, "0" * 60_000 + ".3"])
def test_a_price_stays_as_short_as_its_column_and_its_line(price: str) -> None:
    result = decoded(register(price_per_kwh=price))
    if isinstance(result, RegisterRequest):
        assert len(str(result.price_per_kwh)) <= 32
    else:
        assert isinstance(result, Undecodable)


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00",
        "2026-01-01",
        "2026-13-01T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "now",
        "",
        1767225600,
        1767225600.5,
        None,
    ],
)
def test_a_timestamp_without_a_zone_or_sense_is_refused(timestamp: object) -> None:
    bad = refused(register(timestamp=timestamp))
    assert bad.error.code == "invalid_field"
    assert "`timestamp`" in str(bad)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00.123456Z", datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-01T00:00:00+02:00", datetime(2025, 12, 31, 22, tzinfo=UTC)),
        ("2026-01-01T00:00:00-08:00", datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_timestamps(text: str, utc: datetime) -> None:
    assert decode(register(timestamp=text)).timestamp == utc


MONEY = [
    (name, field.name)
    for name, cls in MESSAGE_TYPES.items()
    for field in msgspec.structs.fields(cls)
    if field.type in (Decimal, Decimal | None)
]


@pytest.mark.parametrize(
    "amount", ["NaN", "sNaN", "Infinity", "-0.01", "-0", "1E+3", "1e999999", "0.0000001", 10**30]
)
@pytest.mark.parametrize(("name", "field"), MONEY)
def test_what_is_no_sum_of_money_is_refused(name: str, field: str, amount: object) -> None:
    @settings(max_examples=1)
    @given(STRATEGIES[name])
    def check(message: Message) -> None:
        bad = refused(as_bytes(as_dict(message) | {field: amount}))
        assert (bad.error.code, field in str(bad)) == ("invalid_field", True)

    check()


def test_money_was_found() -> None:
    assert ("charging_status_update", "cost") in MONEY
    assert ("charge_request_response", "price_per_kwh") in MONEY


TIMES = [
    (name, field.name)
    for name, cls in MESSAGE_TYPES.items()
    for field in msgspec.structs.fields(cls)
    if isinstance(inspect.type_info(field.type), inspect.DateTimeType)
    # The times of a receipt are Central's own; the others are a stranger's, and may be stored.
    and (name != "charge_completion_response" or field.name == "timestamp")
]


@pytest.mark.parametrize("extreme", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
@pytest.mark.parametrize(("name", "field"), TIMES)
def test_a_time_that_is_taken_is_one_that_utc_can_say(name: str, field: str, extreme: str) -> None:
    @settings(max_examples=1)
    @given(STRATEGIES[name])
    def check(message: Message) -> None:
        result = decoded(as_bytes(as_dict(message) | {field: extreme}))
        if isinstance(result, Message):
            getattr(result, field).astimezone(UTC)
        else:
            assert result.error.code == "invalid_field"
            assert field in str(result)

    check()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("energy_wh", -1),
        ("energy_wh", 10**9 + 1),
        ("energy_wh", 10**30),
        ("energy_wh", 0.5),
        ("energy_wh", "1"),
        ("energy_wh", True),
        ("power_w", -1),
        ("power_w", 10**8 + 1),
        ("seq", -1),
        ("seq", 2**53 + 1),
        ("soc_percent", -0.1),
        ("soc_percent", 100.1),
        ("soc_percent", "50"),
        ("session_id", "not a uuid"),
        ("session_id", 1),
        ("driver_id", ""),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_field(field: str, value: object) -> None:
    bad = refused(reading(**{field: value}))
    assert bad.error.code == "invalid_field"
    assert bad.message_id == UUID(AN_ID)
    assert f"`{field}`" in str(bad)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("energy_wh", 0),
        ("energy_wh", 10**9),
        ("power_w", 10**8),
        ("seq", 2**53),
        ("soc_percent", 0),
        ("soc_percent", 100),
    ],
)
def test_the_ends_of_the_ranges_are_taken(field: str, value: int) -> None:
    message = decode(reading(**{field: value}))
    assert isinstance(message, ChargingData)
    assert getattr(message, field) == value


@pytest.mark.parametrize("name", ["charge_request", "start_charging_command"])
def test_a_target_is_from_1_wh_to_1_gwh(name: str) -> None:
    fields = {
        "type": name,
        "message_id": AN_ID,
        "timestamp": AT,
        "cp_id": "A",
        "driver_id": "D1",
        "session_id": AN_ID,
    }
    for wrong in (0, -1, 10**9 + 1, 1.5, "5"):
        assert "`energy_wh`" in str(refused(as_bytes(fields | {"energy_wh": wrong})))
    for right in (1, 10**9, None):
        assert isinstance(decode(as_bytes(fields | {"energy_wh": right})), MESSAGE_TYPES[name])


def test_what_a_driver_leaves_out_of_a_query_has_a_default() -> None:
    fields = {"message_id": AN_ID, "timestamp": AT, "driver_id": "D1"}
    query = as_dict(decode(as_bytes(fields | {"type": "available_cps_request"})))
    assert (query["all"], query["after"], query["limit"]) == (False, "", 100)
    query = as_dict(decode(as_bytes(fields | {"type": "charging_history_request"})))
    assert (query["before"], query["limit"]) == (None, 20)


@pytest.mark.parametrize(
    "currency",
    ["eur", "EURO", "EU", "E1R", "EUR\n", "ÉUR", "", None, "ABC", "XXX", "XTS", "XAU", "XDR", "CLF"],
)
def test_what_is_no_currency_is_refused(currency: object) -> None:
    assert refused(register(currency=currency)).error.code == "invalid_field"


def test_the_sentence_says_what_currency_is_none() -> None:
    said = str(refused(register(currency="ABC")).error)
    assert "`currency` must be a currency of ISO 4217 such as EUR; 'ABC' is none" in said


def test_what_an_older_central_says_of_money_is_understood_as_it_is() -> None:
    """Its currencies were any three letters, and its sums had two digits, also in yen."""
    update = {
        "type": "charging_status_update",
        "message_id": AN_ID,
        "timestamp": AT,
        "driver_id": "D1",
        "cp_id": "CP1",
        "session_id": AN_ID,
        "status": "charging",
        "energy_wh": 1834,
        "power_w": 0,
    }
    for cost, currency in (("55.02", "JPY"), ("0.55", "ABC"), ("1.834", "KWD")):
        message = as_dict(decode(as_bytes(update | {"cost": cost, "currency": currency})))
        assert (message["cost"], message["currency"]) == (cost, currency)


@pytest.mark.parametrize("limit", [0, -1, 201, 10**30])
def test_no_page_is_longer_than_200(limit: int) -> None:
    for name in ("available_cps_request", "charging_history_request"):
        fields = {"type": name, "message_id": AN_ID, "timestamp": AT, "driver_id": "D1", "limit": limit}
        assert refused(as_bytes(fields)).error.code == "invalid_field"
        assert isinstance(decode(as_bytes(fields | {"limit": 200})), MESSAGE_TYPES[name])


def test_a_text_has_500_characters_at_the_most() -> None:
    assert decode(register(location="é" * 500)).message_id == UUID(AN_ID)
    assert refused(register(location="é" * 501)).error.code == "invalid_field"


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x7f", "\x9b"])
def test_a_text_has_no_control_characters(character: str) -> None:
    assert refused(register(location=f"Main {character}Street")).error.code == "invalid_field"


# What a peer wrote, shown to people


NASTY = st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp"]) | st.just("x"), min_size=1, max_size=20)


@settings(max_examples=300)
@given(MESSAGES, NASTY, st.data())
def test_control_characters_of_a_peer_never_appear_raw(message: Message, text: str, data: st.DataObject) -> None:
    fields = as_dict(message)
    fields[data.draw(st.sampled_from(sorted(fields)))] = text
    fields[text] = text
    result = decoded(as_bytes(fields))
    if isinstance(result, Undecodable):
        assert str(result).isprintable()


@pytest.mark.parametrize("field", ["type", "message_id", "timestamp", "cp_id", "status", "engine_connected"])
def test_the_text_of_an_error_is_short_however_long_the_value_was(field: str) -> None:
    fields: dict[str, object] = {
        "type": "status_update",
        "message_id": AN_ID,
        "timestamp": AT,
        "cp_id": "A",
        "status": "ACTIVE",
        "engine_connected": True,
    }
    assert len(str(refused(as_bytes(fields | {field: "x" * 60_000})))) <= 500


# What is made of them


def test_the_codes_are_those_of_the_tree_in_the_docstring() -> None:
    assert errors.__doc__ is not None
    tree = errors.__doc__.partition("WireError")[2]
    drawn = dict(re.findall(r"─ (\w+) +([a-z_]+)(?: +\(closes the connection\))?$", tree, re.MULTILINE))
    assert drawn == {error.__name__: code for code, error in WIRE_ERRORS.items()}


def test_each_code_is_written_on_one_class_and_is_that_classs_own() -> None:
    def all_below(error: type[WireError]) -> set[type[WireError]]:
        return set().union({error}, *(all_below(child) for child in error.__subclasses__()))

    with_code = [error for error in all_below(WireError) if "code" in vars(error)]
    assert sorted(error.code for error in with_code) == sorted(WIRE_ERRORS)
    for code, error in WIRE_ERRORS.items():
        assert error.code == code
        assert re.fullmatch("[a-z]+(_[a-z]+)*", code)


def test_every_error_of_evcharge_is_drawn_in_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert sorted(["EvchargeError", *drawn]) == sorted(classes)


@given(st.sampled_from(sorted(WIRE_ERRORS)), st.text(max_size=2000), st.none() | st.uuids())
def test_an_error_response_always_fits_the_wire(code: str, reason: str, in_reply_to: UUID | None) -> None:
    now = Instant(datetime(2026, 1, 1, tzinfo=UTC), 1.0)
    response = error_response(code, reason, in_reply_to, now)
    assert decode(encode(response)) == response
    assert (response.code, response.in_reply_to, response.timestamp) == (code, in_reply_to, now.utc)
    assert response.reason == shown(reason)
    assert response.reason.isprintable()


@given(st.text(max_size=1000))
def test_what_is_shown_of_a_text_is_the_text_if_that_can_be_shown(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 500
    if text.isprintable():
        assert shown(text) == text[:500]
    message = decode(register(location=shown(text)))
    assert isinstance(message, RegisterRequest)
    assert message.location == shown(text)


def test_a_refusal_names_what_may_be_sent() -> None:
    message = ErrorResponse(message_id=new_id(), timestamp=datetime.now(UTC), code="x", reason="y")
    error = refusal(message, [RegisterRequest, HeartbeatRequest])
    assert isinstance(error, UnexpectedType)
    assert str(error) == (
        "error_response may not be sent here; expected one of: heartbeat_request, register_request"
    )


@given(st.uuids(), st.text(max_size=20), st.text(max_size=20))
def test_derived_ids_are_the_same_each_time_and_differ_by_name(origin: UUID, name: str, other: str) -> None:
    assert derived_id(origin, name) == derived_id(origin, name)
    assert (derived_id(origin, name) == derived_id(origin, other)) == (name == other)
    assert derived_id(origin, name) != origin


def test_new_ids_are_new() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000


def test_messages_cannot_be_changed() -> None:
    message = decode(register())
    with pytest.raises(AttributeError):
        message.message_id = new_id()  # type: ignore[misc]


def test_lists_are_not_shared_between_messages() -> None:
    fields = {"type": "status_update", "message_id": AN_ID, "timestamp": AT, "cp_id": "A", "status": "ACTIVE"}
    one, other = (decode(as_bytes(fields | {"engine_connected": True})) for _ in range(2))
    assert isinstance(one, StatusUpdate)
    assert isinstance(other, StatusUpdate)
    assert one.unsettled_session_ids is not other.unsettled_session_ids


def test_a_receipt_with_a_reason_of_a_later_version_is_understood() -> None:
    now = "2026-03-02T14:05:00Z"
    sent = {
        "type": "charge_completion_response",
        "message_id": "a0000001-7c1e-4f0a-9b7d-2f6d1c0a9e55",
        "timestamp": now,
        "cp_id": "CP001",
        "session_id": "a0000002-7c1e-4f0a-9b7d-2f6d1c0a9e55",
        "driver_id": "ana",
        "status": "interrupted",
        "end_reason": "beamed_up",
        "energy_wh": 500,
        "price_per_kwh": "0.30",
        "cost": "0.15",
        "currency": "EUR",
        "requested_at": now,
        "ended_at": now,
        "revision": 1,
    }
    receipt = decode(json.dumps(sent).encode())
    assert isinstance(receipt, ChargeCompletionResponse)
    assert str(receipt.end_reason) == "beamed_up"
    assert json.loads(encode(receipt))["end_reason"] == "beamed_up"
    for nonsense in ("", "Beamed up", "x" * 33, "\x1b[2J", 7, None):
        with pytest.raises(Undecodable):
            decode(json.dumps(sent | {"end_reason": nonsense}).encode())
