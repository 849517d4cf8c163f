'use strict';

// Reads Arrow IPC streams with npm's apache-arrow, the reader that a Cube client would use in JavaScript: each file of a
// folder, and prints {name: {fields: [[name, type, nullable]], rows, columns: [{nulls, digest}]}}. The digest is of what
// the cells mean: texts as they are, bytes in hexadecimal digits, moments in milliseconds, floats by their bits.

const { createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const { RecordBatchReader, Type } = require(
  require.resolve('apache-arrow', { paths: [path.resolve(process.env.CLIENT_FOLDER)] }),
);

function bitsOf(number) {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(number);
  return bytes.toString('hex');
}

const TEXTS = {
  [Type.Utf8]: (cell) => cell,
  [Type.Bool]: String,
  [Type.Int]: String,
  [Type.Float]: bitsOf,
  [Type.Binary]: (cell) => Buffer.from(cell).toString('hex'),
  [Type.Timestamp]: (cell) => String(Math.round(Number(cell))),
};

function readColumn(field, batch, index) {
  const vector = batch.getChildAt(index);
  const textOf = TEXTS[field.type.typeId];
  const digest = createHash('sha256');
  let nulls = 0;
  for (let row = 0; row < batch.numRows; row += 1) {
    const cell = vector.get(row);
    if (cell === null) {
      nulls += 1;
      digest.update('null;');
    } else {
      const text = Buffer.from(textOf(cell));
      digest.update(`${text.length}:`).update(text).update(';');
    }
  }
  if (nulls !== vector.nullCount) {
    throw new Error(`${field.name} says that it has ${vector.nullCount} NULLs, and has ${nulls}`);
  }
  return { nulls, digest: digest.digest('hex') };
}

function readStream(bytes) {
  const reader = RecordBatchReader.from(bytes).open();
  const { fields } = reader.schema;
  const batches = [...reader];
  if (batches.length !== 1) {
    throw new Error(`${batches.length} record batches`);
  }
  const [batch] = batches;
  return {
    fields: fields.map(({ name, type, nullable }) => [name, String(type), nullable]),
    rows: batch.numRows,
    columns: fields.map((field, index) => readColumn(field, batch, index)),
  };
}

const [folder] = process.argv.slice(2);
const read = (name) => [name, readStream(new Uint8Array(fs.readFileSync(path.join(folder, name))))];
process.stdout.write(JSON.stringify(Object.fromEntries(fs.readdirSync(folder).sort().map(read))));
