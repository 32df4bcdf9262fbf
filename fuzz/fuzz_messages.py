"""Any bytes are a message or are refused as foreseen, and a message survives being encoded and decoded again."""

import json
import sys
from typing import Any

import atheris
from seeds import EXAMPLES, fuzz

with atheris.instrument_imports(include=["evcharge"]):
    from evcharge.protocol.messages import MAX_TEXT, Undecodable, decode, encode

MESSAGES: list[dict[str, Any]] = [json.loads(example) for example in EXAMPLES]
FIELDS = sorted({field for message in MESSAGES for field in message})
TEXTS = ["", "9999-12-31T23:59:59Z", "2026-03-02T14:05:00.9999999+23:59", "NaN", "1E+99", "0.0000001", "-0"]
NUMBERS = [0, -1, 2**53, 2**63, 2**64, 10**400, 0.5, 1e308, -0.0]
MOST_CHANGES = 3


def check(data: bytes) -> None:
    try:
        message = decode(data)
    except Undecodable as refused:
        reason = str(refused)
        assert reason.isprintable(), ascii(reason)
        assert len(reason) <= MAX_TEXT, len(reason)
        return
    assert decode(encode(message)) == message


def bent(data: bytes) -> bytes:
    """An example in which some fields have other values, as the bytes choose."""
    chance = atheris.FuzzedDataProvider(data)
    message = dict(chance.PickValueInList(MESSAGES))
    for _ in range(chance.ConsumeIntInRange(1, MOST_CHANGES)):
        message[chance.PickValueInList(FIELDS)] = value(chance)
    return json.dumps(message, ensure_ascii=chance.ConsumeBool()).encode("utf-8", "surrogatepass")


def value(chance: Any) -> Any:
    match chance.ConsumeIntInRange(0, 6):
        case 0:
            return chance.PickValueInList(TEXTS)
        case 1:
            return chance.PickValueInList(NUMBERS)
        case 2:
            return chance.ConsumeInt(9)
        case 3:
            return chance.ConsumeUnicode(20)
        case 4:
            return [value(chance)]
        case 5:
            return chance.PickValueInList(MESSAGES)
        case _:
            return chance.PickValueInList([None, True, False])


def one(data: bytes) -> None:
    check(data)
    check(bent(data))


fuzz(one, sys.argv)
