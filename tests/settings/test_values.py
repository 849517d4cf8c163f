"""What texts of settings mean."""

from __future__ import annotations

import pytest

from cubequeue_server.settings.values import (
    GIB,
    MIB,
    PORT_AUTO,
    PORT_OFF,
    Address,
    Boolean,
    Choice,
    Duration,
    Endpoint,
    Integer,
    Port,
    Size,
    Texts,
)

WORDS = Texts("WORDS", "[a-z]+", "a word")
CHOICE = Choice(("error", "warn"), "LEVEL")

GOOD = [
    (Size(), "64", 64),
    (Size(), "64MB", 64_000_000),
    (Size(), "64mb", 64_000_000),
    (Size(), "64MiB", 64 * MIB),
    (Size(), "64 mib", 64 * MIB),
    (Size(), "64Mi", 64 * MIB),
    (Size(), "1.5GiB", 3 * GIB // 2),
    (Size(), "2k", 2_000),
    (Size(), "7b", 7),
    (Duration(), "30", 30_000),
    (Duration(), "0.5", 500),
    (Duration(), "500ms", 500),
    (Duration(), "30s", 30_000),
    (Duration(), "10m", 600_000),
    (Duration(), "4H", 14_400_000),
    (Duration(), "1d", 86_400_000),
    (Integer(), "10", 10),
    (Integer(), "-10", -10),
    (Boolean(), "TRUE", True),
    (Boolean(), "1", True),
    (Boolean(), "on", True),
    (Boolean(), "no", False),
    (Boolean(), "0", False),
    (CHOICE, "WARN", "warn"),
    (Port(), "3030", 3030),
    (Port(), "0", PORT_OFF),
    (Port(), "Auto", PORT_AUTO),
    (Port(), "65535", 65535),
    (Address(), "0.0.0.0:3030", Endpoint("0.0.0.0", 3030)),
    (Address(), "[::1]:3030", Endpoint("::1", 3030)),
    (Address(), "localhost:auto", Endpoint("localhost", PORT_AUTO)),
    (Address(), "h:0", Endpoint("h", PORT_OFF)),
    (WORDS, "", ()),
    (WORDS, "a, b,,c ", ("a", "b", "c")),
]

BAD = [
    (Size(), "", "not a number"),
    (Size(), "big", "not a number"),
    (Size(), "64 XB", "unknown unit 'xb'"),
    (Size(), "1.5", "not a whole number"),
    (Size(), "9" * 30, "too many digits"),
    (Size(), "\u0664", "not a number"),
    (Duration(), "1w", "unknown unit 'w'"),
    (Duration(), "0.0001", "not a whole number"),
    (Integer(), "1.5", "not a whole number"),
    (Integer(), "9" * 30, "not a whole number"),
    (Boolean(), "maybe", "not true or false"),
    (CHOICE, "loud", "not one of error, warn"),
    (Port(), "65536", "allowed are 1 to 65535, auto"),
    (Port(), "-1", "allowed are 1 to 65535, auto"),
    (Port(may_be_off=False), "0", "cannot be off"),
    (Address(), "3030", "not host:port"),
    (Address(), ":3030", "not host:port"),
    (Address(), "::1:3030", "not host:port"),
    (Address(), "h:x", "allowed are 1 to 65535"),
    (WORDS, "a,2", "2 is not a word"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_a_text_means_a_value(kind: Size, text: str, value: object) -> None:
    parsed = kind.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("kind", "text", "reason"), BAD)
def test_a_bad_text_has_a_reason(kind: Size, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("'", ".")):
        kind.parse(text)


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (Size(), 64 * MIB, "64 MiB"),
        (Size(), 1000, "1000 bytes"),
        (Size(), 0, "0 bytes"),
        (Duration(), 5_000, "5 s"),
        (Duration(), 1_500, "1500 ms"),
        (Boolean(), True, "true"),
        (Port(), PORT_AUTO, "auto"),
        (Port(), PORT_OFF, "off"),
        (Address(), Endpoint("::1", 3030), "[::1]:3030"),
        (Address(), Endpoint("h", PORT_AUTO), "h:auto"),
        (WORDS, ("a", "b"), "a, b"),
        (WORDS, (), "none"),
    ],
)
def test_a_value_is_shown_as_text(kind: Size, value: object, shown: str) -> None:
    assert kind.show(value) == shown


def test_an_endpoint_shows_as_an_address() -> None:
    assert str(Endpoint("::1", 5)) == "[::1]:5"
    assert str(Endpoint("127.0.0.1", 5)) == "127.0.0.1:5"
