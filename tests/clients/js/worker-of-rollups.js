'use strict';

// The orchestrator of Cube, as API instances and refresh workers have it, builds external rollups over a source without
// a database. Each line of stdin is a command: `build NAME…` loads rollups and asks each a query, `end` is the end of a
// refresh. Prints {ready}, and {done: {name: rows}} or {error} after each.

const readline = require('node:readline');
const { Readable } = require('node:stream');
const { load, newDriver } = require('./generation');

const { QueryOrchestrator } = load('@cubejs-backend/query-orchestrator');
const { BaseDriver } = load('@cubejs-backend/base-driver');

class Source extends BaseDriver {
  readOnly() {
    return true;
  }

  async testConnection() {}

  async query() {
    return [{ id: 1 }];
  }

  async downloadQueryResults(_query, _values, options) {
    const types = [{ name: 'id', type: 'int' }];
    const rows = Array.from({ length: 100 }, (_, id) => ({ id }));
    return options.streamImport ? { rowStream: Readable.from(rows), types } : { rows, types };
  }
}

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const driver = newDriver();
const queueOptions = async () => ({ concurrency: 2, executionTimeout: 30 });

const orchestrator = new QueryOrchestrator('STANDALONE', async () => new Source(), () => {}, {
  cacheAndQueueDriver: 'cubestore',
  externalDriverFactory: async () => driver,
  cubeStoreDriverFactory: async () => driver,
  continueWaitTimeout: 5,
  queryCacheOptions: { queueOptions, externalQueueOptions: { concurrency: 2 } },
  preAggregationsOptions: { queueOptions, loadCacheQueueOptions: queueOptions, externalRefresh: false },
});

const rollup = (name) => ({
  preAggregationId: `orders.${name}`,
  preAggregationsSchema: 'prod',
  tableName: `prod.${name}`,
  loadSql: [`CREATE TABLE prod.${name} AS SELECT id FROM ${name}`, []],
  sql: [`SELECT id FROM ${name}`, []],
  previewSql: [`SELECT * FROM prod.${name} LIMIT 1000`, []],
  external: true,
  readOnly: true,
  dataSource: 'default',
  timezone: 'UTC',
  invalidateKeyQueries: [],
  indexesSql: [],
  createTableIndexes: [],
  type: 'rollup',
});

async function build(name) {
  const { data } = await orchestrator.fetchQuery({
    query: `SELECT id FROM prod.${name} LIMIT 10000`,
    values: [],
    external: true,
    dataSource: 'default',
    cacheKeyQueries: { queries: [] },
    preAggregations: [rollup(name)],
    requestId: 'r-span-1',
    renewQuery: true,
  });
  return data;
}

async function run([command, ...names]) {
  if (command === 'end') {
    await orchestrator.preAggregations.updateRefreshEndReached();
    return {};
  }
  const done = {};
  for (const name of names) {
    done[name] = await build(name);
  }
  return done;
}

async function main() {
  await driver.testConnection();
  print({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      print({ done: await run(line.trim().split(/\s+/)) });
    } catch (error) {
      print({ error: error.stack || String(error) });
    }
  }
}

main().then(() => process.exit(0), (error) => {
  print({ error: error.stack || String(error) });
  process.exit(1);
});
