'use strict';

// The answer as rows of text (wire.md §4, §5): legacy result set, Arrow stream, or Completed.

const { Reader, readString, readTable, union, bool, uint32, bytes, string, vectorOf } = require('./flatbuffers');
const { rowsOfArrow } = require('./arrow');

const COMMAND = { HttpQuery: 1, HttpResultSet: 2, HttpError: 3, HttpQueryResult: 4 };
const RESULT = { Arrow: 1, Completed: 2 };

const HttpColumnValue = { value: string(0) };
const HttpRow = { values: vectorOf(readTable(HttpColumnValue))(0) };
const HttpResultSet = { columns: vectorOf(readString)(0), rows: vectorOf(readTable(HttpRow))(1) };
const HttpError = { error: string(0) };
const HttpQueryResult = {
  data: union(0, { [RESULT.Arrow]: { data: bytes(0, { required: true }), isLast: bool(1) }, [RESULT.Completed]: {} }, {
    required: true,
  }),
};
const HttpMessage = {
  messageId: uint32(0),
  command: union(1, {
    [COMMAND.HttpResultSet]: HttpResultSet,
    [COMMAND.HttpError]: HttpError,
    [COMMAND.HttpQueryResult]: HttpQueryResult,
  }),
  connectionId: string(3),
};

function rowsOfLegacy({ columns, rows }) {
  if (columns === null || rows === null) {
    throw new Error('a result set needs its columns and its rows');
  }
  return rows.map(({ values }) => {
    if (values === null || values.length !== columns.length) {
      throw new Error('a row has other columns than its result set');
    }
    return Object.fromEntries(columns.map((column, index) => [column, values[index].value]));
  });
}

function rowsOfQueryResult([type, result]) {
  switch (type) {
    case RESULT.Arrow:
      if (!result.isLast) {
        throw new Error('an answer in several parts');
      }
      return rowsOfArrow(result.data);
    case RESULT.Completed:
      return [];
    default:
      throw new Error(`unknown query result ${type}`);
  }
}

/** The rows of one answer; throws for HttpError, and for anything that a strict decoder refuses. */
function rowsOfMessage(buffer) {
  const [type, command] = new Reader(new Uint8Array(buffer)).root(HttpMessage).command;
  switch (type) {
    case COMMAND.HttpResultSet:
      return rowsOfLegacy(command);
    case COMMAND.HttpQueryResult:
      return rowsOfQueryResult(command.data);
    case COMMAND.HttpError:
      throw new Error(command.error);
    default:
      throw new Error(`unexpected command ${type} in an answer`);
  }
}

module.exports = { rowsOfMessage };
