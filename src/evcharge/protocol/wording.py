"""What is wrong with a JSON object, in the words of docs/protocol.md: msgspec's own tell of Python's types."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from evcharge.protocol.notation import NOT_PLAIN

PLACE = re.compile(r"(.*?)(?: - at `\$([^`]*)`)?", re.S)
MISSING = re.compile(r"Object missing required field `(.*)`")
UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.S)
STEP = re.compile(r"\.(\w+)|\[[^]]*\]")


class Wording:
    """`named` are types that have a name of their own, and what to call them."""

    def __init__(self, named: Mapping[Any, str]) -> None:
        self._named = [(inspect.type_info(kind), words) for kind, words in named.items()]

    def what_is_wrong(self, kind: Any, problem: msgspec.ValidationError) -> str:
        """The sentence for an object that should have been a `kind`; it may hold the object's own words."""
        found = PLACE.fullmatch(str(problem))
        assert found is not None
        text, path = found[1], found[2] or ""
        where = path.removeprefix(".")
        if text.startswith("`"):  # ours, from a check of the whole object
            return f"in `{where}`, {text}" if where else text
        if missing := MISSING.fullmatch(text):
            return f"`{f'{where}.' if where else ''}{missing[1]}` is missing"
        if unknown := UNKNOWN.fullmatch(text):
            return f"there is no field `{f'{where}.' if where else ''}{unknown[1]}`"
        must_be = self.words(_at(inspect.type_info(kind), path))
        return f"`{where}` must be {must_be}" if where else f"it must be {must_be}"

    def words(self, kind: inspect.Type) -> str:
        """What a value of this type is."""
        for named, words in self._named:
            if kind == named:
                return words
        match kind:
            case inspect.Metadata(type=inner):
                return self.words(inner)
            case inspect.UnionType(types=types):
                return " or ".join(self.words(one) for one in types)
            case inspect.NoneType():
                return "null"
            case inspect.LiteralType(values=values):
                return " or ".join(map(str, values))
            case inspect.StrType():
                return "a string"
            case inspect.IntType(ge=least, le=most):
                return "an integer" + _bound(" from", least) + _bound(" to", most)
            case inspect.FloatType(ge=least, le=most):
                return "a number" + _bound(" from", least) + _bound(" to", most)
            case inspect.BoolType():
                return "true or false"
            case inspect.EnumType(cls=cls):
                return f"one of {', '.join(member.value for member in cls)}"
            case inspect.UUIDType():
                return "a UUID such as 6fa459ea-ee8a-4ca4-894e-db77e160355e"
            case inspect.DateTimeType():
                return "a time with seconds and a time zone such as 2026-03-02T14:05:00Z"
            case inspect.DecimalType():
                return NOT_PLAIN.removeprefix("must be ")
            case inspect.ListType():
                return "a list"
            case _:
                return "an object"


def _bound(word: str, limit: float | None) -> str:
    return "" if limit is None else f"{word} {limit}"


def _at(kind: inspect.Type, path: str) -> inspect.Type:
    """The type of what lies there in a `kind`."""
    for step in STEP.finditer(path):
        if isinstance(kind, inspect.UnionType):
            kind = next(one for one in kind.types if isinstance(one, inspect.StructType | inspect.ListType))
        if isinstance(kind, inspect.StructType):
            kind = next(field.type for field in kind.fields if field.encode_name == step[1])
        elif isinstance(kind, inspect.ListType):
            kind = kind.item_type
    return kind
