'use strict';

// The API server's configuration: SQLite, slowed down, with a line in EXECUTIONS for each query it is asked.
// With CUBEQUEUE_URL the driver of queue and cache has that URL, as the README says; else the usual variables count.

const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');

const load = (name) => require(require.resolve(name, { paths: [process.env.PACKAGES] }));

const SqliteDriver = load('@cubejs-backend/sqlite-driver');
const { CubeStoreDriver } = load('@cubejs-backend/cubestore-driver');

const url = process.env.CUBEQUEUE_URL;

const DELAY_MS = Number(process.env.QUERY_DELAY_MS);

class CountingDriver extends (SqliteDriver.default || SqliteDriver) {
  async query(query, values) {
    if (/\bfrom\b/i.test(query)) {
      fs.appendFileSync(
        process.env.EXECUTIONS,
        `${JSON.stringify({ query: query.replace(/\s+/g, ' ').trim(), values: values || [] })}\n`,
      );
      // Not the lists of tables: each server's loads ask for them at times of their own, and would drift apart.
      if (!query.includes('sqlite_master')) {
        await sleep(DELAY_MS);
      }
    }
    return super.query(query, values);
  }

  // The driver asks whether the schema is attached and attaches it in two steps; two builds at once would clash.
  createSchemaIfNotExists(schema) {
    this.attached ??= super.createSchemaIfNotExists(schema);
    return this.attached;
  }
}

module.exports = {
  driverFactory: () => new CountingDriver(),
  telemetry: false,
  ...(url ? { externalDbType: 'cubestore', externalDriverFactory: () => new CubeStoreDriver({ url }) } : {}),
};
