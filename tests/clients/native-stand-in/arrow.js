'use strict';

// An Arrow IPC stream as rows of text: NULL or a string in every cell (wire.md §5).

function textOf(type, Type) {
  switch (type.typeId) {
    case Type.Null:
    case Type.Utf8:
    case Type.LargeUtf8:
    case Type.Bool:
    case Type.Int:
    case Type.Float:
      return String;
    case Type.Timestamp:
      return (milliseconds) => new Date(Number(milliseconds)).toISOString().replace('Z', '');
    default:
      throw new Error(`Arrow type ${type} is not supported`);
  }
}

function rowsOfArrow(data) {
  // Required late: only a server that announces Arrow makes a client ask for it.
  const { RecordBatchReader, Type } = require('apache-arrow');
  // A copy: IPC buffers must be aligned, and FlatBuffers places a byte vector at any multiple of four.
  const reader = RecordBatchReader.from(new Uint8Array(data)).open();
  if (!reader.schema) {
    throw new Error('an Arrow stream without its schema');
  }
  const rows = [];
  for (const batch of reader) {
    const columns = batch.schema.fields.map((field, index) => [
      field.name,
      batch.getChildAt(index),
      textOf(field.type, Type),
    ]);
    for (let row = 0; row < batch.numRows; row += 1) {
      rows.push(
        Object.fromEntries(
          columns.map(([name, vector, text]) => {
            const cell = vector.get(row);
            return [name, cell === null ? null : text(cell)];
          }),
        ),
      );
    }
  }
  return rows;
}

module.exports = { rowsOfArrow };
