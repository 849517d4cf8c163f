'use strict';

// One of several API instances on the same queue. Prints {ready}, waits for a line on its input, asks for its queries
// until each is answered, prints {answers, errors}, and works for the others until the next line. Every execution is a
// line in EXECUTIONS.

const fs = require('node:fs');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');
const { executeUntilDone, newDriver, newQueryQueue } = require('./generation');

const { names, delayMs, concurrency, continueWaitTimeout, prefix } = JSON.parse(process.env.WORK);

const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function main() {
  const driver = newDriver();
  await driver.testConnection();
  const { queue, log } = newQueryQueue({
    prefix,
    driver,
    concurrency,
    continueWaitTimeout,
    handlers: {
      query: async ({ name }) => {
        fs.appendFileSync(process.env.EXECUTIONS, `${name}\n`);
        await sleep(delayMs);
        return { name, text: `result of ${name}` };
      },
    },
  });
  print({ ready: true });
  await input.next();
  const answers = await Promise.all(
    names.map((name) => executeUntilDone(queue, [name], { name }, { priority: name.length % 3 })),
  );
  const wrong = answers.filter(({ name, text }, index) => name !== names[index] || text !== `result of ${name}`);
  print({ answers: answers.length - wrong.length, errors: log.filter(({ message }) => /error/i.test(message)) });
  await input.next();
}

main().then(() => process.exit(0));
