"""The dialect of SELECTs: literals, quotes and parameters (commands.md §1), and the names of unnamed columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, Final

from sqlglot import expressions as exp
from sqlglot import generator, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError, TokenError
from sqlglot.tokens import Token, TokenType

from protocol.literals import ESCAPES
from storage.errors import InternalError, UserError

# The value of a parameter: bytes are UTF-8 text.
Parameter = bytes | int | float | bool | None


class _CubeStore(Dialect):
    UNESCAPED_SEQUENCES: Final = {
        **{"\\" + letter: letter for letter in "v\\"},
        **{"\\" + letter.decode(): meaning.decode() for letter, meaning in ESCAPES.items()},
    }

    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS: Final = ['"', "`"]
        STRING_ESCAPES: Final = ["'", "\\"]
        DROP_UNKNOWN_ESCAPES = True
        NESTED_COMMENTS = False

    class Generator(generator.Generator):
        """Writes an expression as CubeStore's query engine names its column."""

        TRANSFORMS: Final = {
            **generator.Generator.TRANSFORMS,
            exp.Boolean: lambda _, node: f"Boolean({'true' if node.this else 'false'})",
            exp.Column: lambda _, node: node.name,
            exp.Literal: lambda _, node: _literal_name(node),
            exp.Paren: lambda self, node: self.sql(node, "this"),
            exp.Star: lambda *_: "UInt8(1)",
        }

        def normalize_func(self, name: str) -> str:
            return name.upper() if name.upper() in {"AVG", "COUNT", "MAX", "MIN", "SUM"} else name.lower()


def _literal_name(node: Any) -> str:
    if node.is_string:
        return f'Utf8("{node.this}")'
    return f"{'Int64' if str(node.this).isdecimal() else 'Float64'}({node.this})"


_DIALECT: Final = _CubeStore()


def parse(text: bytes, parameters: Sequence[Parameter]) -> Any:  # sqlglot's tree is untyped
    """The tree of one SELECT. Raises InternalError for a text that is not SQL, UserError for other statements."""
    sql = text.decode(errors="replace")
    try:
        trees = _DIALECT.parser().parse(list(_with_values(_DIALECT.tokenize(sql), parameters)), sql)
    except TokenError:
        raise InternalError('TokenizerError("a quote or a comment is not closed")') from None
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        reason = str(details[0].get("description") or "the text could not be parsed").split(" but got <")[0]
        raise InternalError(f'ParserError("{reason[:200]}")') from None
    statements = [tree for tree in trees if tree is not None]
    if len(statements) > 1:
        raise UserError("more than one statement in one text is not supported")
    if not statements or not isinstance(statements[0], exp.Query):
        raise UserError("only a single SELECT is supported")
    return statements[0]


def column_name(node: Any) -> str:
    """The name of a result column without AS."""
    return _DIALECT.generate(node, comments=False)


def _with_values(read: list[Token], parameters: Sequence[Parameter]) -> Iterator[Token]:
    """The tokens, with the value of a parameter in place of each `?`."""
    values = iter(parameters)
    for token in read:
        if token.token_type is not TokenType.PLACEHOLDER:
            yield token
        elif not parameters:
            raise InternalError('ParserError("Empty parameters, please send parameters within query")')
        else:
            try:
                yield from _literal(next(values))
            except StopIteration:
                count = len(parameters)
                text = f"Placeholder index is out of bound, actual: {count}, parameters length: {count}"
                raise InternalError(f'ParserError("{text}")') from None


def _literal(value: Parameter) -> list[Token]:
    if value is None or isinstance(value, bool):
        return [Token(TokenType.NULL if value is None else TokenType.TRUE if value else TokenType.FALSE, str(value))]
    if isinstance(value, bytes):
        return [Token.string(value.decode(errors="replace"))]
    if not isfinite(value):
        raise UserError("parameters that are not finite are not supported in SELECT")
    number = Token(TokenType.NUMBER, repr(abs(value)))
    if value >= 0:
        return [number]
    return [Token(TokenType.L_PAREN, "("), Token(TokenType.DASH, "-"), number, Token(TokenType.R_PAREN, ")")]
