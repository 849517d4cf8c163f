'use strict';

// node run.js FILE [SCENARIO…]: runs the scenarios of a file at the same time and prints a JSON line for each:
// {scenario, ok, ms, error?, skipped?}, and {done: count} at the end. A scenario is an async function; it fails by
// throwing, and says why it does not concern this generation by returning a text.

const path = require('node:path');

const LIMIT_MS = Number(process.env.SCENARIO_LIMIT_MS || 60_000);

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function withLimit(promise, name) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} took longer than ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

async function runOne(name, scenario) {
  const started = Date.now();
  try {
    const skipped = await withLimit(scenario(), name);
    print({ scenario: name, ok: true, ms: Date.now() - started, ...(typeof skipped === 'string' ? { skipped } : {}) });
  } catch (error) {
    print({ scenario: name, ok: false, ms: Date.now() - started, error: error.stack || String(error) });
  }
}

async function main([file, ...names]) {
  const scenarios = Object.entries(require(path.resolve(file)));
  const wanted = names.length ? scenarios.filter(([name]) => names.includes(name)) : scenarios;
  await Promise.all(wanted.map(([name, scenario]) => runOne(name, scenario)));
  print({ done: wanted.length });
}

// An error nobody waits for ends a Cube process; here it is a failure of the whole file.
process.on('unhandledRejection', (error) => {
  print({ scenario: 'unhandled rejection', ok: false, ms: 0, error: error.stack || String(error) });
  process.exit(1);
});

main(process.argv.slice(2)).then(() => process.exit(0));
