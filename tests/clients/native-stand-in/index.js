'use strict';

// Stands in for the binary of @cubejs-backend/native, which cannot be downloaded everywhere: the decoder of CubeStore's
// answers, and the little more that a whole Cube API server asks for. Our own code, so that no package file is touched.

const { rowsOfMessage } = require('./message');
const { finalResult, rowsOfColumns } = require('./final-result');

/** An answer that JavaScript sees only as an opaque reference, as with the real decoder. */
class Reference {
  #rows;

  constructor(rows) {
    this.#rows = rows;
  }

  static rowsOf(reference) {
    return reference.#rows;
  }
}

const rowsOf = (raw) =>
  raw instanceof Reference ? Reference.rowsOf(raw) : rowsOfColumns(JSON.parse(Buffer.from(raw).toString()));

module.exports = {
  parseCubestoreResultMessage: async (buffer) => new Reference(rowsOfMessage(buffer)),
  getCubestoreResult: Reference.rowsOf,
  getFinalQueryResult: async (transform, raw, root) => finalResult(transform, rowsOf(raw), root),
  isFallbackBuild: () => true,
  setupLogger: () => {},
  resetLogger: () => {},
  redactSqlLiterals: (sql) => sql,
  // Made for every data model; only YAML templates would use it.
  newJinjaEngine: () => ({}),
  registerInterface: async () => ({}),
  shutdownInterface: async () => {},
};
