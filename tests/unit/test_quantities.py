"""Numbers as people write them."""

from __future__ import annotations

import pytest

from glorasearch.quantities import three_digits


@pytest.mark.parametrize(
    ("number", "said"),
    [(2_391.7, "2,390"), (-10_480, "-10,500"), (999.6, "1,000"), (999.4, "999"), (8.657, "8.66"),
     (0.000123, "0.000123"), (0.0, "0"), (3e-7, "3e-07"), (2.5e11, "2.5e+11")],
)  # fmt: skip
def test_errors_in_units_of_their_own_have_three_digits_and_no_exponent(number: float, said: str) -> None:
    assert three_digits(number) == said
