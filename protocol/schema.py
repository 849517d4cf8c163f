"""The numbers of CubeStore's FlatBuffers schema: unions, and the slots of the tables (wire.md §4)."""

from __future__ import annotations

# The union HttpCommand; the names by number.
COMMAND_NONE, COMMAND_QUERY, COMMAND_RESULT_SET, COMMAND_ERROR, COMMAND_QUERY_RESULT = range(5)
COMMAND_NAMES = ("NONE", "HttpQuery", "HttpResultSet", "HttpError", "HttpQueryResult")

# The union HttpParameterValue; the names by number.
VALUE_NONE, VALUE_INT64, VALUE_BOOL, VALUE_STRING, VALUE_BINARY, VALUE_FLOAT64, VALUE_NULL = range(7)
VALUE_NAMES = ("NONE", "Int64Value", "BoolValue", "StringValue", "BinaryValue", "Float64Value", "NullValue")

# The union HttpQueryResultData.
DATA_NONE, DATA_ARROW, DATA_COMPLETED = range(3)

# The slots of HttpMessage; a union takes two.
MESSAGE_ID, MESSAGE_COMMAND_TYPE, MESSAGE_COMMAND, MESSAGE_CONNECTION_ID = range(4)
# HttpQuery
QUERY_TEXT, QUERY_TRACE, QUERY_INLINE_TABLES, QUERY_PARAMETERS, QUERY_RESPONSE_FORMAT = range(5)
# HttpTable
TABLE_NAME, TABLE_COLUMNS, TABLE_TYPES, TABLE_CSV_ROWS = range(4)
# HttpParameter and HttpQueryResult: one union each
UNION_TYPE, UNION_VALUE = range(2)
# HttpResultSet
RESULT_COLUMNS, RESULT_ROWS = range(2)
# HttpQueryResultArrow
ARROW_DATA, ARROW_IS_LAST = range(2)
# The one field of Int64Value, BoolValue, StringValue, BinaryValue, Float64Value, HttpError, HttpRow, HttpColumnValue
ONLY = 0
