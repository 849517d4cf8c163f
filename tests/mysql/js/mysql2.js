// Drives the MySQL port with mysql2; prints one JSON line a check.
const fs = require('node:fs');
const path = require('node:path');

const mysql = require(path.join(process.env.CLIENT_FOLDER, 'node_modules', 'mysql2', 'promise'));

const [host, port, user, password] = process.argv.slice(2);
const ssl = process.env.CA_FILE ? { ca: fs.readFileSync(process.env.CA_FILE), verifyIdentity: true } : undefined;
const connection = () => mysql.createConnection({ host, port: Number(port), user, password, ssl });
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function check(name, run) {
  const client = await connection();
  try {
    print({ name, value: await run(client) });
  } finally {
    await client.end();
  }
}

const plain = ([rows]) => (Array.isArray(rows) ? rows.map((row) => ({ ...row })) : rows.affectedRows);

async function main() {
  await check('text', async (client) => [
    plain(await client.query('QUEUE ADD PRIORITY 4 ? ?', ['node:a', `it's "quoted" \\ \n`])).length,
    plain(await client.query("SELECT id, priority, exclusive, extra, value FROM system.queue WHERE prefix = 'node'")),
    plain(await client.query('CACHE REMOVE ?', ['node:none'])),
  ]);
  await check('prepared', async (client) => [
    plain(await client.execute('CACHE SET TTL ? ? ?', [600, 'node:k', `it's \\ ? "here" \u{1F600}`])),
    plain(await client.execute('CACHE GET ?', ['node:k'])),
    plain(await client.execute('SELECT id, priority FROM system.queue WHERE prefix = ? AND priority > ?', ['node', 3])),
    plain(await client.execute("SELECT '?' AS mark, ? AS nothing, 5000000000 AS large", [null])),
    plain(await client.execute('CACHE SET ? ?', ['node:bin', Buffer.from([0xff, 0x00])])),
    plain(await client.execute('CACHE GET ?', ['node:bin'])),
    plain(await client.execute('CACHE REMOVE ?', ['node:bin'])),
  ]);
  await check('the same one again', async (client) => {
    const values = [];
    for (let number = 0; number < 5; number += 1) {
      values.push(plain(await client.execute('CACHE INCR ?', ['node:counter']))[0].value);
    }
    return values;
  });
  await check('error', async (client) => {
    const errors = [];
    for (const call of [() => client.query('QUEUE FOO'), () => client.execute('QUEUE FOO ?', [1])]) {
      await call().catch((error) => errors.push([error.errno, error.sqlState, error.sqlMessage]));
    }
    return [errors, plain(await client.query('SELECT 1 AS one'))];
  });
  await check('wait', async (client) => {
    const [[{ id }]] = await client.query("QUEUE ADD 'node:wait' 'x'");
    const other = await connection();
    const waiting = client.query(`QUEUE RESULT_BLOCKING 20000 ${id}`);
    await new Promise((resolve) => { setTimeout(resolve, 100); });
    await other.query("QUEUE ACK 'node:wait' 'woken'");
    await other.end();
    return plain(await waiting)[0].payload;
  });
  await check('other commands', async (client) => {
    await client.ping();
    await client.changeUser({ user, password, database: 'any' });
    return plain(await client.query('SELECT 1 AS one'));
  });
  await check('rows', async (client) => {
    const [rows] = await client.query({ sql: "QUEUE LIST 'node'", rowsAsArray: true });
    return rows.map((row) => row[0]);
  });
}

main().then(() => process.exit(0), (error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
