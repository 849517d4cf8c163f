'use strict';

// The orchestrator of Cube, as API instances and refresh workers have it, builds external rollups over a source without
// a database. Each line of stdin is a command: `build NAME…` loads rollups and asks each a query, `end` is the end of a
// refresh, `load` asks queries over and over until `stop`. Prints {ready}, and {done: {name: rows}} or {error} after
// each. What the source executes is a line in EXECUTIONS, with the SIDE of this process.

const fs = require('node:fs');
const readline = require('node:readline');
const { Readable } = require('node:stream');
const { setTimeout: sleep } = require('node:timers/promises');
const { load: loadPackage, newDriver } = require('./generation');

const { QueryOrchestrator } = loadPackage('@cubejs-backend/query-orchestrator');
const { BaseDriver } = loadPackage('@cubejs-backend/base-driver');

class Source extends BaseDriver {
  readOnly() {
    return true;
  }

  async testConnection() {}

  async query(sql) {
    if (process.env.EXECUTIONS) {
      fs.appendFileSync(process.env.EXECUTIONS, `${process.env.SIDE} ${sql}\n`);
    }
    await sleep(20);
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

async function build(name, isRefresh = false) {
  const { data } = await orchestrator.fetchQuery({
    query: `SELECT id FROM prod.${name} LIMIT 10000`,
    values: [],
    external: true,
    dataSource: 'default',
    cacheKeyQueries: { queries: [] },
    preAggregations: [rollup(name)],
    requestId: 'r-span-1',
    renewQuery: isRefresh,
  });
  return data;
}

const ask = (key) => orchestrator.fetchQuery({
  query: `SELECT ${key}`,
  values: [],
  dataSource: 'default',
  cacheKeyQueries: { queries: [] },
  preAggregations: [],
  requestId: `r-${key}`,
});

let asking = null;

/** What API instances do all the time: queries of the source, and of the rollups that are there. */
async function keepAsking(names, counted) {
  for (let turn = 0; !counted.isOver; turn += 1) {
    try {
      await Promise.all([ask(turn % 8), build(names[turn % names.length])]);
      counted.answered += 2;
    } catch (error) {
      if (!/Continue wait/.test(String(error))) {
        counted.failures.push(String(error));
      }
    }
    await sleep(10);
  }
}

async function run([command, ...names]) {
  if (command === 'end') {
    await orchestrator.preAggregations.updateRefreshEndReached();
    return {};
  }
  if (command === 'load') {
    const counted = { answered: 0, failures: [], isOver: false };
    asking = { counted, ended: keepAsking(names, counted) };
    return {};
  }
  if (command === 'stop') {
    asking.counted.isOver = true;
    await asking.ended;
    return asking.counted;
  }
  const done = {};
  for (const name of names) {
    done[name] = await build(name, true);
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
