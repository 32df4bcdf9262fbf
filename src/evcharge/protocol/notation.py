"""How a decimal is written: digits, and perhaps a point and digits, `0.30`. Python's `Decimal` takes far more."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import inspect

PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?")
NOT_PLAIN = 'must be a decimal in plain notation such as "0.30"'

NONE = msgspec.Raw(b"null")


def is_plain(text: str) -> bool:
    return PLAIN.fullmatch(text) is not None


def plain_decimal(text: str) -> Decimal:
    """Raises `ValueError` for what is in no plain notation."""
    if not is_plain(text):
        raise ValueError(f"{text!a} is no number in plain notation such as 0.30")
    return Decimal(text)


class Notation:
    """Looks at the decimals in JSON objects as they are written there; msgspec gives their value alone."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        as_written = {kind: _as_written(inspect.type_info(kind)) for kind in kinds}
        self._decoders = {kind: msgspec.json.Decoder(raw) for kind, raw in as_written.items() if raw is not None}
        self.kinds = frozenset(self._decoders)
        """Those that have decimals."""

    def not_plain(self, kind: Any, data: bytes) -> str | None:
        """A field whose decimal is in another notation, in `data`, which has been read as a `kind`."""
        return next(_not_plain(self._decoders[kind].decode(data), ""), None)


def _as_written(kind: inspect.Type) -> Any:
    """The type of the same with the text of each decimal, and nothing else; None if there can be none."""
    match kind:
        case inspect.DecimalType():
            return msgspec.Raw
        case inspect.Metadata(type=inner):
            return _as_written(inner)
        case inspect.UnionType(types=types):  # with null
            return next((raw for one in types if (raw := _as_written(one)) is not None), None)
        case inspect.ListType(item_type=item):
            raw = _as_written(item)
            return None if raw is None else list.__class_getitem__(raw)
        case inspect.StructType(cls=cls, fields=fields):
            written = {field.encode_name: _as_written(field.type) for field in fields}
            has = [(name, raw, NONE if raw is msgspec.Raw else []) for name, raw in written.items() if raw]
            return msgspec.defstruct(cls.__name__, has) if has else None
        case _:
            return None


def _not_plain(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, msgspec.Raw):
        written = msgspec.json.decode(value) if bytes(value).startswith(b'"') else bytes(value).decode()
        if written != "null" and not is_plain(written):
            yield where
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _not_plain(part, f"{where}[{number}]")
    else:
        for name in value.__struct_fields__:
            yield from _not_plain(getattr(value, name), f"{where}.{name}" if where else name)
