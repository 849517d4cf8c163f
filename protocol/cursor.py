"""The grammar's terminals (commands.md §2): each method reads one of them and moves on, or raises ParserError.

The offset of a cursor is always that of a token or the end of the text. Native parameters are bound to `?` in the
order in which the parser asks for them.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import ParserError
from protocol.lexer import (
    HEX_NUMBER,
    NULL,
    NUMBER,
    PLACEHOLDER,
    PLAIN_INTEGER,
    PREFIXED_LITERAL,
    QUOTED_START,
    WORD,
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
_LONGEST_DIGITS: Final = len(str(UINT128.maximum))

_STRING: Final = "string parameter"
_INTEGER: Final = "int64 parameter"
_STRING_OR_INTEGER: Final = "string or integer parameter"
_STRING_OR_BINARY: Final = "string or binary parameter"

_VALUES_BUT_NUMBERS: Final = (QUOTED_START, PREFIXED_LITERAL, HEX_NUMBER, PLACEHOLDER)

_END: Final = -1
_QUOTES: Final = frozenset(b"'\"`")
_PLACEHOLDER: Final = ord("?")
_MINUS: Final = ord("-")
_NULL_STARTS: Final = frozenset(b"nN")
_HEX_STARTS: Final = frozenset(b"xX0")
_NUMBER_STARTS: Final = frozenset(b"0123456789.-")


class Cursor:
    """A place in the text of a statement, and the parameters not yet bound."""

    __slots__ = ("_bound", "_parameters", "offset", "text")

    def __init__(self, text: bytes, offset: int, parameters: tuple[Cell, ...] | None) -> None:
        self.text = text
        self.offset = skip_trivia(text, offset)
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
        if self._peek() in _QUOTES:
            return None
        found = WORD.match(self.text, self.offset)
        if found is None or (name := found[0].upper()) not in names:
            return None
        self.offset = skip_trivia(self.text, found.end())
        return name

    def flag(self, name: bytes) -> bool:
        """Whether the next token is this modifier; it is read then."""
        text, offset = self.text, self.offset
        if text[offset : offset + len(name)].upper() != name:
            return False
        found = WORD.match(text, offset)
        if found is None or found.end() != offset + len(name):
            return False
        self.offset = skip_trivia(text, found.end())
        return True

    # Texts

    def key(self) -> Path:
        """A path or prefix: any word, anything quoted, or a string parameter."""
        text = self._quoted_or_word()
        if text is not None:
            return text
        if self._peek() == _PLACEHOLDER:
            return self._text_parameter()
        raise self.expected("identifier")

    def keyref(self) -> KeyRef:
        """A path, or the id that a bare number or an integer parameter is."""
        text = self._quoted_or_word()
        if text is not None:
            return text
        code = self._peek()
        if code == _PLACEHOLDER:
            return self._keyref_parameter()
        if code in _NUMBER_STARTS:
            return self.integer("id", UINT64)
        raise self.expected("identifier")

    def string(self) -> bytes:
        """A text: any word but NULL, anything quoted, or a string parameter."""
        text = None if self._is_null() else self._quoted_or_word()
        if text is not None:
            return text
        if self._peek() == _PLACEHOLDER:
            return self._text_parameter()
        raise self.expected("literal string")

    def value(self) -> Value:
        """A payload: a text, or binary as a parameter or as `X'…'`, the way `sqlstring` writes a Buffer."""
        value = self._value(null_parameter=False)
        assert value is not None
        return value

    def value_or_null(self) -> Value | None:
        """A payload or NULL, written or as a parameter: the driver sends a native NULL for an empty result."""
        if self._is_null():
            self.word()
            return None
        return self._value(null_parameter=True)

    def _value(self, *, null_parameter: bool) -> Value | None:
        text = None if self._is_null() else self._quoted_or_word()
        if text is not None:
            return text
        code = self._peek()
        if code == _PLACEHOLDER:
            parameter = self._parameter()
            if isinstance(parameter, bytes) or (null_parameter and parameter is None):
                return parameter
            raise _wrong_type(parameter, _STRING_OR_BINARY)
        binary = self._hexadecimal() if code in _HEX_STARTS else None
        if binary is None:
            raise self.expected("literal string")
        return binary

    def _quoted_or_word(self) -> bytes | None:
        text, offset = self.text, self.offset
        if offset < len(text) and text[offset] in _QUOTES:
            content, behind = read_quoted(text, offset)
            self.offset = skip_trivia(text, behind)
            return content
        found = WORD.match(text, offset)
        if found is None:
            return None
        self.offset = skip_trivia(text, found.end())
        return found[0]

    def _is_null(self) -> bool:
        return self._peek() in _NULL_STARTS and NULL.match(self.text, self.offset) is not None

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
        try:
            binary = Binary.fromhex(digits.decode())
        except ValueError:
            return None
        self.offset = skip_trivia(text, behind)
        return binary

    # Numbers

    def integer(self, name: str, type_: IntegerType) -> int:
        """An integer in the range of `type_`, bare or as an int64 parameter; errors call it `name`."""
        plain = PLAIN_INTEGER.match(self.text, self.offset)
        if plain is None or (value := int(plain[0])) > type_.maximum:
            return self._unusual_integer(name, type_)
        self.offset = skip_trivia(self.text, plain.end())
        return value

    def _unusual_integer(self, name: str, type_: IntegerType) -> int:
        if self._peek() == _PLACEHOLDER:
            return self._integer_parameter(name, type_)
        is_negative = self._peek() == _MINUS
        if is_negative:
            self.offset = skip_trivia(self.text, self.offset + 1)
        found = NUMBER.match(self.text, self.offset)
        if found is None:
            raise self._not_a_number()
        number = found[0].decode()
        if number.endswith("L"):
            raise ParserError(f'{name} must be a valid integer, actual: Number("{preview(found[0][:-1])}", true)')
        if is_negative and type_.minimum == 0:
            raise ParserError(f"{name} must be a positive integer, actual: -{preview(found[0])}")
        value = _parse_integer(name, type_, f"-{number}" if is_negative else number)
        self.offset = skip_trivia(self.text, found.end())
        return value

    def _not_a_number(self) -> ParserError:
        if WORD.match(self.text, self.offset):
            return self.expected("literal number" if self._is_null() else "a concrete value")
        is_other_value = any(shape.match(self.text, self.offset) for shape in _VALUES_BUT_NUMBERS)
        return self.expected("literal number" if is_other_value else "a value")

    def _integer_parameter(self, name: str, type_: IntegerType) -> int:
        parameter = self._parameter()
        if type(parameter) is not int:
            raise _wrong_type(parameter, _INTEGER)
        return _parse_integer(name, type_, str(parameter))

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

    def _parameter(self) -> Cell:
        found = PLACEHOLDER.match(self.text, self.offset)
        assert found is not None
        parameters, index = self._parameters, self._bound
        if parameters is None:
            raise ParserError("Empty parameters, please send parameters within query")
        if index >= len(parameters):
            raise ParserError(
                f"Placeholder index is out of bound, actual: {index}, parameters length: {len(parameters)}"
            )
        self.offset = skip_trivia(self.text, found.end())
        self._bound = index + 1
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


def _parse_integer(name: str, type_: IntegerType, number: str) -> int:
    """Read `number` as Rust's `parse` does: a digit too many is found before a wrong character behind it."""
    is_negative = number.startswith("-")
    rest = number.removeprefix("-")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))].lstrip("0") or "0"
    magnitude = int(digits) if len(digits) <= _LONGEST_DIGITS else UINT128.maximum + 1
    value = -magnitude if is_negative else magnitude
    if is_negative and type_.minimum == 0:
        error = "invalid digit found in string"
    elif value > type_.maximum:
        error = "number too large to fit in target type"
    elif value < type_.minimum:
        error = "number too small to fit in target type"
    elif not rest.isdecimal():
        error = "invalid digit found in string"
    else:
        return value
    raise ParserError(f"{name} must be a valid integer, error: {error}")
