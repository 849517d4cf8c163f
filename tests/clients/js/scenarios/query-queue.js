'use strict';

// QueryQueue as an API instance uses it (clients.md §6).

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');
const { Queue, executeUntilDone, has, isContinueWait, newPrefix, newQueryQueue, since } = require('../generation');

/** A handler that counts what it runs; `gate` holds it back. */
function countingHandler({ delayMs = 5, gate = null } = {}) {
  const executed = [];
  const handler = async (query) => {
    executed.push(query.name);
    await (gate || sleep(delayMs));
    return `result of ${query.name}`;
  };
  return { executed, handler };
}

function newGate() {
  let open;
  const gate = new Promise((resolve) => {
    open = resolve;
  });
  return { gate, open };
}

async function eventually(condition, what, limitMs = 15_000) {
  for (const end = Date.now() + limitMs; !(await condition()); await sleep(20)) {
    assert.ok(Date.now() < end, `never: ${what}`);
  }
}

module.exports = {
  async 'equal queries at the same time are executed once'() {
    const { executed, handler } = countingHandler({ delayMs: 200 });
    const { queue, log } = newQueryQueue({ handlers: { query: handler }, continueWaitTimeout: 10 });
    const asked = Array.from({ length: 50 }, () => queue.executeInQueue('query', ['same'], { name: 'same' }, 10, {}));
    // Before ids one reader takes the result and others wait for the next one: they ask again, as an API does.
    const settled = await Promise.allSettled(asked);
    const answers = settled.filter(({ status }) => status === 'fulfilled').map(({ value }) => value);
    if (has.ids) {
      assert.equal(answers.length, 50, JSON.stringify(settled.find(({ status }) => status === 'rejected')?.reason?.stack));
    }
    assert.ok(answers.length >= 1);
    assert.ok(answers.every((answer) => answer === 'result of same'));
    assert.deepEqual(executed, ['same']);
    assert.deepEqual(log.filter(({ message }) => message === 'Queue storage error'), []);
  },

  async 'different queries are all answered, none twice'() {
    const { executed, handler } = countingHandler();
    const { queue, log } = newQueryQueue({ handlers: { query: handler }, concurrency: 5, continueWaitTimeout: 5 });
    const names = Array.from({ length: 100 }, (_, index) => `q${index}`);
    const answers = await Promise.all(names.map((name) => executeUntilDone(queue, [name], { name })));
    assert.deepEqual(answers, names.map((name) => `result of ${name}`));
    assert.deepEqual(executed.slice().sort(), names.slice().sort());
    assert.deepEqual(log.filter(({ message }) => message === 'Queue storage error'), []);
  },

  async 'a slow query is first continue-wait, then a result'() {
    const { gate, open } = newGate();
    const { executed, handler } = countingHandler({ gate });
    const { queue } = newQueryQueue({ handlers: { query: handler }, continueWaitTimeout: 1 });
    await assert.rejects(queue.executeInQueue('query', ['slow'], { name: 'slow' }, 10, {}), isContinueWait);
    // Not at once: a client whose worker answers between its RESULT and its ADD adds the query anew.
    setTimeout(open, 300);
    assert.equal(await executeUntilDone(queue, ['slow'], { name: 'slow' }), 'result of slow');
    assert.deepEqual(executed, ['slow']);
  },

  async 'errors reach the caller'() {
    const { queue } = newQueryQueue({
      handlers: {
        query: async () => {
          throw new Error("it's \"broken\" \\ 💥");
        },
      },
    });
    await assert.rejects(executeUntilDone(queue, ['bad'], { name: 'bad' }), /^Error: it's "broken" \\ 💥$/);
  },

  async 'urgent queries go first'() {
    const { gate, open } = newGate();
    const order = [];
    const { queue } = newQueryQueue({
      concurrency: 1,
      continueWaitTimeout: 10,
      handlers: {
        query: async ({ name }) => {
          order.push(name);
          await (name === 'first' ? gate : null);
          return name;
        },
      },
    });
    const first = executeUntilDone(queue, ['first'], { name: 'first' });
    await eventually(() => order.length === 1, 'the first query runs');
    const rest = [];
    for (const [name, priority] of [['background', 0], ['low', -5], ['urgent', 10], ['also background', 0]]) {
      rest.push(executeUntilDone(queue, [name], { name }, { priority }));
      const added = async () => (await queue.fetchQueryStageState())[1].length >= rest.length;
      await eventually(added, `${name} is added`);
    }
    open();
    await Promise.all([first, ...rest]);
    assert.deepEqual(order, ['first', 'urgent', 'background', 'also background', 'low']);
  },

  async 'never more than the concurrency run'() {
    let [running, most] = [0, 0];
    const { queue } = newQueryQueue({
      concurrency: 3,
      continueWaitTimeout: 5,
      handlers: {
        query: async ({ name }) => {
          running += 1;
          most = Math.max(most, running);
          await sleep(20);
          running -= 1;
          return name;
        },
      },
    });
    await Promise.all(Array.from({ length: 30 }, (_, name) => executeUntilDone(queue, [name], { name })));
    assert.equal(most, 3);
  },

  async 'a cancelled query is told to its cancel handler'() {
    const { gate, open } = newGate();
    const cancelled = [];
    const { queue } = newQueryQueue({
      handlers: {
        query: async (query, setCancelHandler) => {
          await setCancelHandler('handle-7');
          await gate;
          return 'too late';
        },
      },
      cancelHandlers: { query: async (def) => cancelled.push([def.queryKey, def.cancelHandler]) },
      continueWaitTimeout: 1,
    });
    await assert.rejects(queue.executeInQueue('query', ['c'], { name: 'c' }, 10, {}), isContinueWait);
    const withHandle = async () => (await queue.getQueries()).some((query) => query.cancelHandler === 'handle-7');
    await eventually(withHandle, 'the cancel handler is stored');
    await queue.cancelQuery(queue.redisHash(['c']), null);
    assert.deepEqual(cancelled, [[['c'], 'handle-7']]);
    assert.deepEqual(await queue.getQueries(), []);
    open();
    await sleep(200);
    assert.deepEqual(await queue.getQueries(), []);
  },

  async 'a query that takes too long is cancelled by its worker'() {
    const cancelled = [];
    const { queue } = newQueryQueue({
      executionTimeout: 1,
      continueWaitTimeout: 5,
      handlers: {
        query: async (query, setCancelHandler) => {
          await setCancelHandler('handle');
          await sleep(3_000);
        },
      },
      cancelHandlers: { query: async (def) => cancelled.push(def.cancelHandler) },
    });
    await assert.rejects(executeUntilDone(queue, ['t'], { name: 't' }), /timeout/i);
    assert.deepEqual(cancelled, ['handle']);
  },

  async 'queries that nobody runs are removed as orphaned'() {
    const prefix = newPrefix();
    const abandoned = await Queue.open({ prefix });
    const item = await abandoned.add(['nobody wants it']);
    await sleep(1_300);
    const { handler } = countingHandler();
    const { queue, log } = newQueryQueue({ prefix, handlers: { query: handler }, orphanedTimeout: 1 });
    assert.equal(await executeUntilDone(queue, ['next'], { name: 'next' }), 'result of next');
    // On the fast track the queue is looked through only after the answer.
    await eventually(() => log.some(({ message }) => message === 'Removing orphaned query'), 'it is removed');
    assert.equal(await abandoned.get(item), null);
  },

  async 'queries of a dead worker are removed as stalled'() {
    const prefix = newPrefix();
    const dead = await Queue.open({ prefix, concurrency: 1 });
    const item = await dead.add(['stuck']);
    assert.ok(await dead.retrieve(item));
    const { handler, executed } = countingHandler();
    // Four heartbeats without a sign of life: 4 s, so that the first answer comes before, on a busy machine too.
    const { queue, log } = newQueryQueue({ prefix, handlers: { query: handler }, concurrency: 1, heartBeatInterval: 1 });
    await assert.rejects(queue.executeInQueue('query', ['next'], { name: 'next' }, 10, {}), isContinueWait);
    assert.deepEqual(executed, []);
    await sleep(4_000);
    assert.equal(await executeUntilDone(queue, ['next'], { name: 'next' }), 'result of next');
    assert.ok(log.some(({ message }) => message === 'Removing orphaned query'));
  },

  async 'heartbeats keep a long query'() {
    const { handler, executed } = countingHandler({ delayMs: 2_500 });
    const { queue, log } = newQueryQueue({ handlers: { query: handler }, heartBeatInterval: 0.3, continueWaitTimeout: 1 });
    assert.equal(await executeUntilDone(queue, ['long'], { name: 'long' }), 'result of long');
    assert.deepEqual(executed, ['long']);
    assert.ok(!log.some(({ message }) => message === 'Removing orphaned query'));
  },

  async 'the stage of a query is its place in the queue'() {
    const { gate, open } = newGate();
    const { handler } = countingHandler({ gate });
    const { queue } = newQueryQueue({ concurrency: 1, handlers: { query: handler }, continueWaitTimeout: 20 });
    const options = (name) => ({ stageQueryKey: name });
    const all = [];
    for (const name of ['one', 'two', 'three']) {
      all.push(queue.executeInQueue('query', [name], { name }, 0, options(name)));
      await eventually(async () => await queue.getQueryStage(name), `${name} has a stage`);
    }
    await eventually(async () => (await queue.getQueryStage('one')).stage === 'Executing query', 'one is executing');
    await eventually(async () => (await queue.getQueryStage('one')).timeElapsed >= 0, 'its time is told');
    assert.equal((await queue.getQueryStage('two')).stage, '#1 in queue');
    assert.equal((await queue.getQueryStage('three')).stage, '#2 in queue');
    assert.equal(await queue.getQueryStage('unknown'), undefined);
    open();
    await Promise.all(all);
  },

  async 'the list of queries tells their state'() {
    const { gate, open } = newGate();
    const { handler } = countingHandler({ gate });
    const { queue } = newQueryQueue({ concurrency: 1, handlers: { query: handler }, continueWaitTimeout: 20 });
    const all = ['a', 'b'].map((name) => queue.executeInQueue('query', [name], { name }, 0, {}));
    await eventually(async () => (await queue.getQueries()).length === 2, 'both are listed');
    await eventually(
      async () => (await queue.getQueries()).map(({ status }) => status.join()).sort().join(' ') === 'active toProcess',
      'one runs, the other waits',
    );
    open();
    await Promise.all(all);
    assert.deepEqual(await queue.getQueries(), []);
  },

  async 'a persistent query streams its rows'() {
    if (!since('0.33.0')) {
      return 'its stream goes to the caller by the old API';
    }
    const { queue, log } = newQueryQueue({
      continueWaitTimeout: 1,
      stream: async (query, target) => {
        await sleep(300);
        for (let row = 0; row < query.rows; row += 1) {
          target.write({ row });
        }
        target.end();
        await sleep(100);
      },
    });
    const queryKey = Object.assign(['stream', []], { persistent: true });
    const stream = await executeUntilDone(queue, queryKey, { rows: 10 }, { handler: 'stream', priority: 0 });
    const rows = [];
    for await (const row of stream) {
      rows.push(row.row);
    }
    assert.deepEqual(rows, Array.from({ length: 10 }, (_, row) => row));
    await eventually(async () => (await queue.getQueries()).length === 0, 'the queue is empty');
    assert.deepEqual(log.filter(({ message }) => message === 'Queue storage error'), []);
  },

  async 'a job is added and not waited for'() {
    const { executed, handler } = countingHandler();
    const { queue } = newQueryQueue({ handlers: { query: handler } });
    await queue.executeInQueue('query', ['job'], { name: 'job', isJob: true, forceBuild: true, orphanedTimeout: 3600 }, 10, {});
    await eventually(() => executed.length === 1, 'the job ran');
    assert.deepEqual(executed, ['job']);
  },
};
