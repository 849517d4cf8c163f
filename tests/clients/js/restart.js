'use strict';

// A client that waits while its server goes away. Prints a JSON line at each step and reads a line when told to go on.
//   node restart.js driver     RESULT_BLOCKING by CubeStoreQueueDriver over the restart
//   node restart.js queue      the same by QueryQueue, with the query at work meanwhile

const readline = require('node:readline');
const { executeUntilDone, newDriver, newQueryQueue, Queue } = require('./generation');

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const goOn = () => input.next();

async function driver() {
  const queue = await Queue.open({ continueWaitTimeout: 2, driver: newDriver() });
  const before = await queue.add(['before']);
  await queue.retrieve(before);
  const started = Date.now();
  const waiting = queue.blocking(before);
  print({ waiting: before.id });
  const first = await waiting;
  print({ answer: first, waitedMs: Date.now() - started });
  await goOn();
  const after = await queue.add(['after']);
  print({ added: after.added, id: after.id, pending: after.pending });
  const claimed = await queue.retrieve(after);
  const woken = queue.blocking(after);
  await queue.ack(after, { result: 'after' });
  print({ claimed: claimed !== null, result: await woken });
}

async function queue() {
  let executions = 0;
  let finish;
  const held = new Promise((resolve) => {
    finish = resolve;
  });
  const { queue: queries, log } = newQueryQueue({
    continueWaitTimeout: 2,
    handlers: {
      query: async ({ name }) => {
        executions += 1;
        print({ executing: executions });
        await held;
        return `result of ${name}`;
      },
    },
  });
  const answer = executeUntilDone(queries, ['q'], { name: 'q' });
  await goOn();
  finish();
  print({ result: await answer, executions, orphaned: log.some(({ message }) => message === 'Orphaned execution result') });
}

({ driver, queue })[process.argv[2]]().then(() => process.exit(0));
