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
