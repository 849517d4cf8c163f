'use strict';

// A driver does what Cube does for pre-aggregations, on a cubequeue that passes to a CubeStore behind it. Prints
// {sent: [base64 of each message]}, {got: [base64 of each reply]} and {ok: how many steps}, or {error}.

const { Readable } = require('node:stream');
const { Queue, has, newDriver } = require('./generation');

const COLUMNS = [{ name: 'id', type: 'int' }, { name: 'status', type: 'text' }, { name: 'at', type: 'timestamp' }];
const TABLE = 'prod_pre_aggregations.orders_main_abc_def_1lglkfa';
const TRACE = { requestId: 'r-span-1' };

const row = (id) => ({ id, status: id % 2 ? "it's \\ ü" : null, at: '2026-11-28T12:00:00.000' });
const rows = (count) => Array.from({ length: count }, (_, id) => row(id));

/** Every message of this connected driver from now on, both ways. */
function recordBytes(driver) {
  const { webSocket } = driver.connection;
  const record = { sent: [], got: [] };
  const send = webSocket.send.bind(webSocket);
  webSocket.send = (message, ...rest) => {
    record.sent.push(Buffer.from(message).toString('base64'));
    return send(message, ...rest);
  };
  webSocket.on('message', (message) => record.got.push(Buffer.from(message).toString('base64')));
  return record;
}

function query(driver, text, values = [], options = {}) {
  return driver.query(text, values, { ...TRACE, ...options });
}

const inlineTables = [{
  name: 'lambda_orders', columns: [{ name: 'id', type: 'int' }, { name: 'status', type: 'text' }], csvRows: '1,new\n2,\n',
}];

const steps = [
  (driver) => driver.testConnection(),
  (driver) => driver.createSchemaIfNotExists('prod_pre_aggregations'),
  (driver) => driver.getTablesQuery('prod_pre_aggregations'),
  (driver) => driver.getPrefixTablesQuery && driver.getPrefixTablesQuery('prod_pre_aggregations', ['orders_main', 'b']),
  (driver) => driver.tableColumnTypes(TABLE),
  (driver) => driver.tablesSchema && driver.tablesSchema(),
  (driver) => driver.uploadTableWithIndexes(TABLE, COLUMNS, { rows: rows(3000) }, [], null, TRACE, {
    createTableIndexes: [{ indexName: 'orders_i', type: 'regular', columns: ['status'] }],
  }),
  (driver) => driver.uploadTableWithIndexes(TABLE, COLUMNS, { csvFile: ['s3://bucket/a.csv.gz'] }, [], null, TRACE, {}),
  (driver) => driver.uploadTableWithIndexes(TABLE, COLUMNS, { rowStream: Readable.from(rows(20000)) }, [], null,
    { ...TRACE, buildRangeEnd: '2026-11-30T23:59:59.999' }, {}),
  (driver) => query(driver, `SELECT status, count(*) c FROM ${TABLE} WHERE status = ? GROUP BY 1 LIMIT 10000`, ["o'b"]),
  (driver) => query(driver, 'SELECT * FROM lambda_orders UNION ALL SELECT * FROM prod.orders', [], { inlineTables }),
  (driver) => query(driver, "SELECT CASE\n    WHEN NOW() < CAST('2026-12-01T00:00:00.000Z' as TIMESTAMP)"
    + " + interval '7 day' THEN FLOOR((UNIX_TIMESTAMP()) / 60) END as refresh_key"),
  (driver) => query(driver, 'SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key'),
  (driver) => query(driver, "CREATE SOURCE OR UPDATE `ks` as 'ksql' VALUES (user = 'u', password = 'secret-of-ksql')"),
  async (driver) => {
    const failure = await driver.dropTable('prod_pre_aggregations.never_made').then(() => null, (error) => error);
    if (!failure || !String(failure).includes('never_made')) {
      throw new Error(`an error of the CubeStore is ${failure}`);
    }
  },
  async (driver) => {
    const queue = await Queue.open({ driver, concurrency: 5 });
    const item = await queue.add(['SELECT 1', []]);
    await queue.retrieve(item);
    await queue.merge(item, { cancelHandler: 1 });
    await queue.ack(item, { result: 'ok' });
    const { result } = await queue.blocking(item) || {};
    if (result !== 'ok') {
      throw new Error(`the result is ${result}`);
    }
  },
];

async function main() {
  const driver = newDriver();
  await driver.testConnection();
  const record = recordBytes(driver);
  for (const step of steps) {
    await step(driver);
  }
  const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  print({ sent: record.sent });
  print({ got: record.got });
  print({ ok: steps.length, arrow: has.arrow });
  await driver.release();
}

const leave = (code, line = '') => process.stdout.write(line, () => process.exit(code));

main().then(() => leave(0), (error) => leave(1, `${JSON.stringify({ error: error.stack || String(error) })}\n`));
