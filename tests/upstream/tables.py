"""Tables as a CubeStore has them, as far as a worker asks: made, listed, read and dropped by their statements."""

from __future__ import annotations

import re

from protocol.encode import encode_error, encode_result
from storage.vocabulary import EMPTY_RESULT, Columns, ColumnType, Result
from tests.upstream.stand_in import Received

_LISTED = Columns(("table_name", ColumnType.STRING), ("build_range_end", ColumnType.STRING))
_SCHEMAS = Columns(("schema_name", ColumnType.STRING))


class Tables:
    """An `Answer` of the stand-in."""

    def __init__(self) -> None:
        self.schemas: set[str] = set()
        self.live: dict[str, str] = {}  # name and text
        self.dropped: list[str] = []

    async def __call__(self, received: Received) -> bytes | None:
        message_id, text = received.request.message_id, received.text
        outcome = self._execute(text)
        return encode_error(message_id, outcome) if isinstance(outcome, str) else encode_result(message_id, outcome)

    def _execute(self, text: str) -> Result | str:
        if made := re.match(r"CREATE SCHEMA IF NOT EXISTS (\S+)", text):
            self.schemas.add(made[1])
        elif asked := re.search(r"information_schema\.schemata WHERE schema_name = '(\w+)'", text):
            return Result(_SCHEMAS, [(asked[1].encode(),)] if asked[1] in self.schemas else [])
        elif asked := re.search(r"information_schema\.tables WHERE table_schema = '(\w+)'", text):
            names = [name.partition(".")[2] for name in self.live if name.startswith(f"{asked[1]}.")]
            return Result(_LISTED, [(name.encode(), None) for name in names])
        elif made := re.match(r"CREATE TABLE (\S+)", text):
            if made[1] in self.live:
                return f"Internal: table {made[1]} already exists"
            self.live[made[1]] = text
        elif dropped := re.match(r"DROP TABLE (\S+)", text):
            if self.live.pop(dropped[1], None) is None:
                return f"Internal: table {dropped[1]} does not exist"
            self.dropped.append(dropped[1])
        elif asked := re.search(r"FROM (\w+\.\w+)", text):
            if asked[1] not in self.live:
                return f"Internal: table {asked[1]} was not found"
            return Result(Columns(("id", ColumnType.STRING)), [(b"7",)])
        return EMPTY_RESULT
