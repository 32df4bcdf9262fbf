"""What a price can be in, as ISO 4217 has it."""

import pytest

from evcharge.protocol.currencies import CODES, MOST_DIGITS, check_currency, digits_of, is_currency
from evcharge.protocol.messages import Currency, fits


@pytest.mark.parametrize(
    ("code", "digits"),
    [("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("ISK", 0), ("KWD", 3), ("TND", 3), ("HUF", 2), ("IDR", 2)],
)
def test_a_currency_has_the_digits_that_iso_says(code: str, digits: int) -> None:
    assert is_currency(code)
    assert digits_of(code) == digits


@pytest.mark.parametrize("code", ["ABC", "XXX", "XTS", "XAU", "XAG", "XDR", "CLF", "CHE", "eur", "EURO", ""])
def test_what_nobody_pays_in_is_no_currency(code: str) -> None:
    assert not is_currency(code)
    with pytest.raises(ValueError, match="`currency` must be a currency of ISO 4217 such as EUR"):
        check_currency(code)


def test_a_code_that_nobody_knows_has_two_digits_as_it_always_had() -> None:
    assert digits_of("ABC") == 2


def test_the_list_is_the_whole_table_and_crosses_the_wire() -> None:
    assert len(CODES) > 150
    assert all(fits(code, Currency) for code in CODES)
    assert {digits_of(code) for code in CODES} == {0, 2, 3, 4}
    assert MOST_DIGITS == 4
