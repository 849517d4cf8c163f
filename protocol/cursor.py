"""The grammar's terminals (commands.md §2): each method reads one of them and moves on, or raises ParserError.

The offset of a cursor is always that of a token or the end of the text. Native parameters are bound to `?` in the
order in which the parser asks for them.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.errors import ParserError
from protocol.lexer import (
    HEX_DIGITS,
    HEX_NUMBER,
    NULL,
    NUMBER,
    PLACEHOLDER,
    PLAIN_INTEGER,
    PLAIN_KEY,
    PREFIXED_LITERAL,
    QUOTED_START,
    WORD,
    WORD_PARTS,
    show_token,
    skip_trivia,
)
from protocol.literals import read_quoted
from protocol.position import at_position, preview
from storage.vocabulary import Binary, Cell, KeyRef, Path, Value


class IntegerType:
    """The range of an integer, both ends included."""

    __slots__ = ("maximum", "minimum")

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum


INT64: Final = IntegerType(-(1 << 63), (1 << 63) - 1)
UINT32: Final = IntegerType(0, (1 << 32) - 1)
UINT64: Final = IntegerType(0, (1 << 64) - 1)
UINT128: Final = IntegerType(0, (1 << 128) - 1)
_PLAIN_KEY: Final = re.compile(PLAIN_KEY)
_LONGEST_DIGITS: Final = len(str(UINT128.maximum))

_STRING: Final = "string parameter"
_INTEGER: Final = "int64 parameter"
_STRING_OR_INTEGER: Final = "string or integer parameter"
_STRING_OR_BINARY: Final = "string or binary parameter"

_VALUES_BUT_NUMBERS: Final = (NULL, QUOTED_START, PREFIXED_LITERAL, HEX_NUMBER, PLACEHOLDER)

_END: Final = -1
_QUOTES: Final = frozenset(b"'\"`")
_PLACEHOLDER: Final = ord("?")
_MINUS: Final = ord("-")
_NULL_STARTS: Final = frozenset(b"nN")
_HEX_STARTS: Final = frozenset(b"xX0")
_DIGITS: Final = frozenset(b"0123456789")
_NUMBER_STARTS: Final = frozenset(b"0123456789.-")


class Cursor:
    """A place in the text of a statement, and the parameters not yet bound."""

    __slots__ = ("_bound", "_parameters", "offset", "text")

    def __init__(self, text: bytes, offset: int, parameters: tuple[Cell, ...] | None) -> None:
        self.text = text
        self.offset = offset
        self._parameters = parameters
        self._bound = 0

    # Words

    def word(self) -> bytes | None:
        """The next token in upper case if it is a bare word, else None and nothing is read."""
        found = WORD.match(self.text, self.offset)
        if found is None:
            return None
        self.offset = skip_trivia(self.text, found.end())
        return found[0].upper()

    def option(self, names: frozenset[bytes]) -> bytes | None:
        """The next token in upper case if it is one of these modifiers, else None and nothing is read."""
        found = WORD.match(self.text, self.offset)
        if found is None or (name := found[0].upper()) not in names:
            return None
        self.offset = skip_trivia(self.text, found.end())
        return name

    def flag(self, name: bytes) -> bool:
        """Whether the next token is this modifier; it is read then."""
        text, offset = self.text, self.offset
        behind = offset + len(name)
        if text[offset:behind].upper() != name or (behind < len(text) and text[behind] in WORD_PARTS):
            return False
        self.offset = skip_trivia(text, behind)
        return True

    # Texts

    def key(self) -> Path:
        """A path or prefix: any word, anything quoted, or a string parameter."""
        plain = _PLAIN_KEY.match(self.text, self.offset)
        if plain is not None:
            self.offset = plain.end()
            return plain[1]
        code = self._peek()
        if code in _QUOTES:
            return self._quoted()
        if code == _PLACEHOLDER:
            return self._text_parameter()
        return self._word_instead_of("identifier")

    def keyref(self) -> KeyRef:
        """A path, or the id that a bare number or an integer parameter is."""
        plain = _PLAIN_KEY.match(self.text, self.offset)
        if plain is not None:
            self.offset = plain.end()
            return plain[1]
        code = self._peek()
        if code in _QUOTES:
            return self._quoted()
        if code in _NUMBER_STARTS:
            return self.integer("id", UINT64)
        if code == _PLACEHOLDER:
            return self._keyref_parameter()
        return self._word_instead_of("identifier")

    def string(self) -> bytes:
        """A text: any word but NULL, anything quoted, or a string parameter."""
        code = self._peek()
        if code in _QUOTES:
            return self._quoted()
        if code == _PLACEHOLDER:
            return self._text_parameter()
        return self._value_word()

    def value(self) -> Value:
        """A payload: a text, or binary as a parameter or as `X'…'`, the way `sqlstring` writes a Buffer."""
        code = self._peek()
        if code in _QUOTES:
            return self._quoted()
        if code == _PLACEHOLDER:
            parameter = self._parameter()
            if not isinstance(parameter, bytes):
                raise _wrong_type(parameter, _STRING_OR_BINARY)
            return parameter
        binary = self._hexadecimal() if code in _HEX_STARTS else None
        return self._value_word() if binary is None else binary

    def value_or_null(self) -> Value | None:
        """A payload or NULL, written or as a parameter: the driver sends a native NULL for an empty result."""
        code = self._peek()
        if code == _PLACEHOLDER and self._next_parameter_is_null():
            self._parameter()
            return None
        if code in _NULL_STARTS and NULL.match(self.text, self.offset):
            self.word()
            return None
        return self.value()

    def _quoted(self) -> bytes:
        text = self.text
        content, behind = read_quoted(text, self.offset)
        self.offset = skip_trivia(text, behind) if behind < len(text) else behind
        return content

    def _word_instead_of(self, what: str) -> bytes:
        found = WORD.match(self.text, self.offset)
        if found is None:
            raise self.expected(what)
        self.offset = skip_trivia(self.text, found.end())
        return found[0]

    def _value_word(self) -> bytes:
        if NULL.match(self.text, self.offset):
            raise self.expected("literal string")
        return self._word_instead_of("literal string")

    def _hexadecimal(self) -> Binary | None:
        """The bytes of `X'…'` or `0x…`; None and nothing is read if they are not whole bytes."""
        text = self.text
        prefix = PREFIXED_LITERAL.match(text, self.offset)
        if prefix is not None:
            digits, behind = read_quoted(text, prefix.end())
        elif (number := HEX_NUMBER.match(text, self.offset)) is not None:
            digits, behind = number[1], number.end()
        else:
            return None
        if len(digits) % 2 == 1 or HEX_DIGITS.fullmatch(digits) is None:
            return None
        self.offset = skip_trivia(text, behind)
        return Binary.fromhex(digits.decode())

    # Numbers

    def integer(self, name: str, type_: IntegerType) -> int:
        """An integer in the range of `type_`, bare or as an int64 parameter; errors call it `name`."""
        plain = PLAIN_INTEGER.match(self.text, self.offset)
        if plain is None or (value := int(plain[0])) > type_.maximum:
            return self._unusual_integer(name, type_)
        behind = plain.end()
        self.offset = skip_trivia(self.text, behind) if behind < len(self.text) else behind
        return value

    def _unusual_integer(self, name: str, type_: IntegerType) -> int:
        code = self._peek()
        if code == _PLACEHOLDER:
            return self._integer_parameter(name, type_)
        is_negative = code == _MINUS
        if is_negative:
            self.offset = skip_trivia(self.text, self.offset + 1)
        found = NUMBER.match(self.text, self.offset)
        if found is None:
            raise self._not_a_number()
        number = found[0]
        if number.endswith(b"L"):
            raise ParserError(f'{name} must be a valid integer, actual: Number("{preview(number[:-1])}", true)')
        if is_negative and type_.minimum == 0:
            raise ParserError(f"{name} must be a positive integer, actual: -{preview(number)}")
        value = _parse_integer(name, type_, b"-" + number if is_negative else number)
        self.offset = skip_trivia(self.text, found.end())
        return value

    def _not_a_number(self) -> ParserError:
        text, offset = self.text, self.offset
        if any(shape.match(text, offset) for shape in _VALUES_BUT_NUMBERS):
            return self.expected("literal number")
        return self.expected("a concrete value" if WORD.match(text, offset) else "a value")

    def _integer_parameter(self, name: str, type_: IntegerType) -> int:
        parameter = self._parameter()
        if type(parameter) is not int:
            raise _wrong_type(parameter, _INTEGER)
        if type_.minimum <= parameter <= type_.maximum:
            return parameter
        return _parse_integer(name, type_, b"%d" % parameter)

    # Parameters

    def _text_parameter(self) -> bytes:
        parameter = self._parameter()
        if type(parameter) is not bytes:
            raise _wrong_type(parameter, _STRING)
        return parameter

    def _keyref_parameter(self) -> KeyRef:
        parameter = self._parameter()
        if type(parameter) is bytes:
            return parameter
        if type(parameter) is not int:
            raise _wrong_type(parameter, _STRING_OR_INTEGER)
        if parameter < 0:
            raise ParserError(
                "value must be a valid unsigned integer, error: out of range integral type conversion attempted"
            )
        return parameter

    def _next_parameter_is_null(self) -> bool:
        parameters = self._parameters
        return parameters is not None and self._bound < len(parameters) and parameters[self._bound] is None

    def _parameter(self) -> Cell:
        parameters, index = self._parameters, self._bound
        if parameters is None:
            raise ParserError("Empty parameters, please send parameters within query")
        if index >= len(parameters):
            raise ParserError(
                f"Placeholder index is out of bound, actual: {index}, parameters length: {len(parameters)}"
            )
        self._bound = index + 1
        behind = self.offset + 1
        if behind < len(self.text):
            if self.text[behind] in _DIGITS:
                behind = PLACEHOLDER.match(self.text, self.offset).end()  # type: ignore[union-attr]  # it is one
            behind = skip_trivia(self.text, behind)
        self.offset = behind
        return parameters[index]

    # What is next

    def _peek(self) -> int:
        return self.text[self.offset] if self.offset < len(self.text) else _END

    def show_next(self) -> str:
        """The next token as errors name it."""
        return show_token(self.text, self.offset)

    def expected(self, what: str) -> ParserError:
        """The error of another token than `what` being next; the end of the text has no position (commands.md §8)."""
        position = "" if self.offset >= len(self.text) else at_position(self.text, self.offset)
        return ParserError(f"Expected: {what}, found: {self.show_next()}{position}")


def _wrong_type(parameter: Cell, expected: str) -> ParserError:
    return ParserError(f"Wrong parameters type, actual: {_type_name(parameter)}, expected: {expected}")


def _type_name(parameter: Cell) -> str:
    if parameter is None:
        return "null"
    names = {bool: "bool", int: "int64", float: "float64", Binary: "binary"}
    return names.get(type(parameter), "string")


def _parse_integer(name: str, type_: IntegerType, number: bytes) -> int:
    """Read `number` as Rust's `parse` does: a digit too many is found before a wrong character behind it."""
    is_negative = number.startswith(b"-")
    rest = number.removeprefix(b"-")
    behind_digits = rest.lstrip(b"0123456789")
    digits = rest[: len(rest) - len(behind_digits)].lstrip(b"0") or b"0"
    magnitude = int(digits) if len(digits) <= _LONGEST_DIGITS else UINT128.maximum + 1
    value = -magnitude if is_negative else magnitude
    if is_negative and type_.minimum == 0:
        error = "invalid digit found in string"
    elif value > type_.maximum:
        error = "number too large to fit in target type"
    elif value < type_.minimum:
        error = "number too small to fit in target type"
    elif behind_digits:
        error = "invalid digit found in string"
    else:
        return value
    raise ParserError(f"{name} must be a valid integer, error: {error}")
