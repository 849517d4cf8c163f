"""SELECTs for sqlglot as CubeStore reads them: literals and parameters (commands.md §1), types, names of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, Final

from sqlglot import expressions as exp
from sqlglot import generator, tokens
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy
from sqlglot.errors import SqlglotError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from cubequeue_server.engines.sql.helper import rules
from protocol.literals import ESCAPES
from storage.errors import InternalError, UserError

# The value of a parameter: bytes are UTF-8 text.
Parameter = bytes | int | float | bool | None

_MAX_INT: Final = (1 << 63) - 1
SQLGLOT_TYPES: Final = {
    rules.INT: exp.DType.BIGINT,
    rules.FLOAT: exp.DType.DOUBLE,
    rules.STRING: exp.DType.VARCHAR,
    rules.BOOLEAN: exp.DType.BOOLEAN,
    rules.TIMESTAMP: exp.DType.TIMESTAMP,
    None: exp.DType.NULL,
}


def type_of(node: Any) -> rules.Type:  # sqlglot's tree is untyped
    """The type of an annotated expression, or that which a cast names."""
    return None if node.type is None else rules.TYPES.get(getattr(node.type.this, "name", ""))


def is_integer(literal: Any) -> bool:
    """Whether a literal is an integer of 64 bits."""
    text = str(literal.this)
    return not literal.is_string and text.isdecimal() and len(text) < 20 and int(text) <= _MAX_INT


def _annotate(annotator: Any, node: Any) -> Any:
    """Set the type of an expression whose arguments have theirs."""
    type_: rules.Type
    if isinstance(node, exp.Literal):
        type_ = rules.STRING if node.is_string else rules.INT if is_integer(node) else rules.FLOAT
    elif isinstance(node, exp.Cast):
        type_ = rules.TYPES.get(getattr(node.to.this, "name", ""))
    elif isinstance(node, exp.Case | exp.If):
        type_ = rules.common_type(map(type_of, rules.branches(node)[1]))
    else:
        _, rule, nodes = rules.call(node)
        type_ = rules.common_type(map(type_of, nodes)) if rule.gives is None else rule.gives
    return annotator._set_type(node, SQLGLOT_TYPES[type_])  # noqa: SLF001  # as sqlglot's own annotators do


_ANNOTATED: Final = (*rules.RULES, exp.Literal, exp.Cast, exp.TryCast, exp.Case, exp.If, exp.Anonymous)


class CubeStore(Dialect):
    """The dialect. sqlglot reads the constants."""

    NORMALIZATION_STRATEGY = NormalizationStrategy.CASE_INSENSITIVE
    SUPPORTS_NULL_TYPE = True
    UNESCAPED_SEQUENCES = {  # noqa: RUF012
        **{f"\\{letter}": letter for letter in "v\\"},
        **{f"\\{letter.decode()}": character.decode() for letter, character in ESCAPES.items()},
    }
    EXPRESSION_METADATA = {  # noqa: RUF012
        **Dialect.EXPRESSION_METADATA,
        **{kind: {"returns": exp.DType.BOOLEAN} for kind in (exp.And, exp.Or)},
        **{kind: {"annotator": _annotate} for kind in _ANNOTATED if isinstance(kind, type)},
    }

    class Tokenizer(tokens.Tokenizer):
        """How texts are split."""

        IDENTIFIERS = ['"', "`"]  # noqa: RUF012
        STRING_ESCAPES = ["'", "\\"]  # noqa: RUF012
        DROP_UNKNOWN_ESCAPES = True
        NESTED_COMMENTS = False

    class Generator(generator.Generator):
        """Writes the name of a column without AS."""

        TRANSFORMS = {  # noqa: RUF012
            **generator.Generator.TRANSFORMS,
            exp.Boolean: lambda _, node: f"Boolean({'true' if node.this else 'false'})",
            exp.Column: lambda _, node: node.name,
            exp.Literal: lambda _, node: (
                f'Utf8("{node.this}")' if node.is_string else f"{'Int64' if node.is_int else 'Float64'}({node.this})"
            ),
            exp.Paren: lambda self, node: self.sql(node, "this"),
            exp.Star: lambda *_: "UInt8(1)",
        }

        def normalize_func(self, name: str) -> str:
            """Aggregates in upper case, other functions in lower case."""
            return name.upper() if name.upper() in {"AVG", "COUNT", "MAX", "MIN", "SUM"} else name.lower()


DIALECT: Final = CubeStore()


def shown(node: Any) -> str:
    """An expression as CubeStore names the column of one without AS."""
    return str(DIALECT.generator(comments=False).generate(node, copy=False))


def parse(text: bytes, parameters: Sequence[Parameter]) -> Any:
    """The tree of one SELECT. Raises InternalError for a text that is not SQL, UserError for other statements."""
    sql = text.decode(errors="replace")
    try:
        trees = DIALECT.parser().parse(list(_with_values(DIALECT.tokenize(sql), parameters)), sql)
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


def _with_values(read: list[Token], parameters: Sequence[Parameter]) -> Iterator[Token]:
    """The tokens, with the value of a parameter in place of each `?`."""
    values = iter(parameters)
    for token in read:
        if token.token_type is not TokenType.PLACEHOLDER:
            yield token
            continue
        if not parameters:
            raise InternalError('ParserError("Empty parameters, please send parameters within query")')
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
