"""How expressions of one type become another's: implicitly where branches meet, explicitly in CAST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cubequeue_server.engines.sql.plan import Typed
from storage.errors import UserError
from storage.vocabulary import ColumnType

_INT, _FLOAT, _STRING = ColumnType.INT, ColumnType.FLOAT, ColumnType.STRING
_BOOLEAN, _TIMESTAMP = ColumnType.BOOLEAN, ColumnType.TIMESTAMP

_CASTS = {
    (_INT, _FLOAT): "CAST({} AS REAL)",
    (_INT, _STRING): "CAST({} AS TEXT)",
    (_INT, _BOOLEAN): "({} <> 0)",
    (_FLOAT, _INT): "CAST({} AS INTEGER)",
    (_FLOAT, _STRING): "CAST({} AS TEXT)",
    (_FLOAT, _BOOLEAN): "({} <> 0)",
    (_BOOLEAN, _INT): "{}",
    (_BOOLEAN, _FLOAT): "CAST({} AS REAL)",
    (_BOOLEAN, _STRING): "(CASE {} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END)",
    (_STRING, _INT): "cq_integer({})",
    (_STRING, _FLOAT): "cq_double({})",
    (_STRING, _BOOLEAN): "cq_boolean({})",
    (_STRING, _TIMESTAMP): "cq_timestamp({})",
    (_TIMESTAMP, _STRING): "cq_show_time({})",
}


def as_type(typed: Typed, wanted: ColumnType | None) -> Typed:
    """The expression brought to a type; a bare NULL has any. Raises UserError when there is no way."""
    if typed.type is wanted or wanted is None:
        return typed
    if typed.type is None:
        return replace(typed, type=wanted)
    cast = _CASTS.get((typed.type, wanted))
    if cast is None:
        raise UserError(f"{typed.name} is a {typed.type.value} and cannot become a {wanted.value}")
    return replace(typed, sql=cast.format(typed.sql), type=wanted, chain="", reference="")


def as_text(typed: Typed) -> Typed:
    """The expression as text."""
    return as_type(typed, _STRING)


def common_type(expressions: Sequence[Typed]) -> ColumnType | None:
    """The type that branches of a CASE or rows of a UNION share: a number of both kinds is Float, else a text."""
    types = {typed.type for typed in expressions} - {None}
    if len(types) <= 1:
        return next(iter(types), None)
    return _FLOAT if types == {_INT, _FLOAT} else _STRING
