"""Which currencies there are, and the digits that each has after the point, by ISO 4217.

The list is ISO's own table, as the package `iso4217` ships it; its version is the table's date. CLDR, which Babel
has, tells how many digits are usually shown (none for HUF or IDR), not how many the currency has; pycountry has no
digits.
"""

from iso4217 import raw_xml

_ENTRIES = [entry for entry in raw_xml.iterfind("CcyTbl/CcyNtry") if entry.find("CcyNm[@IsFund]") is None]
# Metals, units of account, XTS and XXX have no digits in the table: nobody pays in them.
_DIGITS = {
    entry.findtext("Ccy", ""): int(digits)
    for entry in _ENTRIES
    if (digits := entry.findtext("CcyMnrUnts", "")).isdecimal()
}
CODES = sorted(_DIGITS)
"""All that a price can be in; neither funds nor metals."""
MOST_DIGITS = max(_DIGITS.values())
_UNKNOWN_DIGITS = 2
"""What older databases have of codes that were never checked."""


def is_currency(code: str) -> bool:
    """Whether a price can be in it."""
    return code in _DIGITS


def digits_of(code: str) -> int:
    """How many digits after the point a sum of this currency has: 2 for EUR, 0 for JPY, 3 for KWD."""
    return _DIGITS.get(code, _UNKNOWN_DIGITS)


def check_currency(code: str) -> None:
    """Raises `ValueError` for what no price can be in."""
    if not is_currency(code):
        raise ValueError(f"`currency` must be a currency of ISO 4217 such as EUR; {code[:12]!a} is none")
