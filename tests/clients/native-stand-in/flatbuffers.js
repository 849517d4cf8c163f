'use strict';

// Reads a FlatBuffer and verifies it on the way, as strictly as the Rust verifier of the real decoder does: bounds,
// alignment, vtables, the NUL after a string, UTF-8, required fields, and the two halves of a union.

const MAX_TABLES = 10_000_000;
const MAX_DEPTH = 64;

class InvalidFlatbuffer extends Error {}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.tables = 0;
    this.depth = 0;
  }

  /** The bytes from `position` on exist and a value of `size` bytes may lie there. */
  check(position, size, alignment, what) {
    if (position % alignment !== 0) {
      throw new InvalidFlatbuffer(`unaligned ${what} at ${position}`);
    }
    if (position < 0 || position + size > this.bytes.length) {
      throw new InvalidFlatbuffer(`${what} at ${position} leaves the buffer`);
    }
  }

  uint8(position) {
    this.check(position, 1, 1, 'byte');
    return this.view.getUint8(position);
  }

  uint16(position) {
    this.check(position, 2, 2, 'uint16');
    return this.view.getUint16(position, true);
  }

  uint32(position) {
    this.check(position, 4, 4, 'uint32');
    return this.view.getUint32(position, true);
  }

  int32(position) {
    this.check(position, 4, 4, 'int32');
    return this.view.getInt32(position, true);
  }

  /** The place that the unsigned offset at `position` points to. */
  follow(position) {
    return position + this.uint32(position);
  }

  root(shape) {
    return this.table(this.follow(0), shape);
  }

  table(position, shape) {
    this.tables += 1;
    this.depth += 1;
    if (this.tables > MAX_TABLES || this.depth > MAX_DEPTH) {
      throw new InvalidFlatbuffer('too many tables');
    }
    const vtable = position - this.int32(position);
    const vtableSize = this.uint16(vtable);
    if (vtableSize % 2 !== 0 || vtableSize < 4) {
      throw new InvalidFlatbuffer(`vtable size ${vtableSize}`);
    }
    this.check(vtable, vtableSize, 2, 'vtable');
    const fieldAt = (slot) => {
      const entry = 4 + 2 * slot;
      const offset = entry < vtableSize ? this.uint16(vtable + entry) : 0;
      return offset === 0 ? null : position + offset;
    };
    const value = {};
    for (const [name, field] of Object.entries(shape)) {
      value[name] = field(this, fieldAt, name);
    }
    this.depth -= 1;
    return value;
  }
}

const scalar = (method, absent) => (slot) => (reader, fieldAt) => {
  const position = fieldAt(slot);
  return position === null ? absent : reader[method](position);
};

/** A field that holds an offset to something read by `read(reader, position)`. */
const reference = (read) => (slot, { required = false } = {}) => (reader, fieldAt, name) => {
  const position = fieldAt(slot);
  if (position === null) {
    if (required) {
      throw new InvalidFlatbuffer(`required field ${name} is missing`);
    }
    return null;
  }
  return read(reader, reader.follow(position));
};

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function readBytes(reader, position) {
  const length = reader.uint32(position);
  reader.check(position + 4, length, 1, 'vector');
  return reader.bytes.subarray(position + 4, position + 4 + length);
}

function readString(reader, position) {
  const bytes = readBytes(reader, position);
  const end = position + 4 + bytes.length;
  if (end >= reader.bytes.length || reader.bytes[end] !== 0) {
    throw new InvalidFlatbuffer(`no NUL after the string at ${position}`);
  }
  try {
    return utf8.decode(bytes);
  } catch {
    throw new InvalidFlatbuffer(`the string at ${position} is not UTF-8`);
  }
}

/** A vector of offsets. */
const readVectorOf = (read) => (reader, position) => {
  const length = reader.uint32(position);
  reader.check(position + 4, 4 * length, 4, 'vector');
  const items = new Array(length);
  for (let index = 0; index < length; index += 1) {
    items[index] = read(reader, reader.follow(position + 4 + 4 * index));
  }
  return items;
};

const readTable = (shape) => (reader, position) => reader.table(position, shape);

/** `[type, value]`; a type without a shape is left unread, as the Rust verifier leaves unknown members. */
const union = (slot, members, { required = false } = {}) => (reader, fieldAt, name) => {
  const typePosition = fieldAt(slot);
  const valuePosition = fieldAt(slot + 1);
  if ((typePosition === null) !== (valuePosition === null)) {
    throw new InvalidFlatbuffer(`the union ${name} has only one of type and value`);
  }
  if (typePosition === null) {
    if (required) {
      throw new InvalidFlatbuffer(`required union ${name} is missing`);
    }
    return [0, null];
  }
  const type = reader.uint8(typePosition);
  const shape = members[type];
  return [type, shape ? reader.table(reader.follow(valuePosition), shape) : null];
};

module.exports = {
  InvalidFlatbuffer,
  Reader,
  readString,
  readTable,
  readVectorOf,
  union,
  bool: scalar('uint8', 0),
  uint32: scalar('uint32', 0),
  bytes: reference(readBytes),
  string: reference(readString),
  vectorOf: (read) => reference(readVectorOf(read)),
};
