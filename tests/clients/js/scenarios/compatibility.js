'use strict';

// A little of everything that Cube asks of its queue and cache, for a client of any version at a server that announces
// any version. Which forms the client chose is read off the wire, by the test.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const {
  CubeStoreCacheDriver,
  Queue,
  executeUntilDone,
  has,
  newDriver,
  newQueryQueue,
} = require('../generation');

const driver = newDriver();
// The first statement of a driver is in the oldest form: it has not seen the server's version yet.
const connected = driver.testConnection();

async function openQueue(options = {}) {
  await connected;
  return Queue.open({ driver, continueWaitTimeout: 10, ...options });
}

module.exports = {
  async 'a query goes from its addition to its result'() {
    const queue = await openQueue();
    const item = await queue.add(['whole'], { query: { sql: "SELECT 'it''s'" } });
    assert.equal(item.added, true);
    assert.equal((await queue.add(['whole'])).added, false);
    assert.deepEqual(await queue.keys('getToProcessQueries'), [item.key]);
    const claimed = await queue.retrieve(item);
    assert.deepEqual(claimed.def.query, { sql: "SELECT 'it''s'" });
    assert.equal(await queue.retrieve(item), null);
    assert.deepEqual(await queue.keys('getActiveQueries'), [item.key]);
    await queue.merge(item, { startQueryTime: 1 });
    await queue.heartbeat(item);
    assert.equal((await queue.get(item)).startQueryTime, 1);
    assert.deepEqual(await queue.connection.getQueriesToCancel(), []);
    assert.equal(await queue.ack(item, { result: [{ n: 'ä', none: null }] }), true);
    assert.deepEqual(await queue.result(['whole']), { result: [{ n: 'ä', none: null }] });
    assert.equal(await queue.result(['whole']), null);
  },

  async 'a cancelled query is gone'() {
    const queue = await openQueue();
    const item = await queue.add(['cancelled']);
    assert.deepEqual((await queue.cancel(item)).queryKey, ['cancelled']);
    assert.equal(await queue.get(item), null);
    const [active, pending] = await queue.connection.getActiveAndToProcess();
    assert.deepEqual([active, pending], [[], []]);
  },

  async 'a waiter is woken by the result'() {
    const queue = await openQueue();
    const item = await queue.add(['waited for']);
    await queue.retrieve(item);
    const waiting = queue.blocking(item);
    await queue.get(item);
    await queue.ack(item, { result: 'woken' });
    assert.deepEqual(await waiting, { result: 'woken' });
  },

  async 'a persistent query is claimed by its own process'() {
    const queue = await openQueue();
    const item = await queue.add(Object.assign(['stream', []], { persistent: true }));
    assert.ok(await queue.retrieve(item));
    assert.equal(await queue.ack(item, { streamResult: true }), true);
  },

  async 'a request can read its result'() {
    const queue = await openQueue();
    const externalId = randomUUID();
    const item = await queue.add(['mine'], { externalId });
    await queue.retrieve(item);
    await queue.ack(item, { result: 'r' });
    assert.deepEqual(await queue.result(['mine'], externalId), { result: 'r' });
  },

  async 'the cache keeps, lists, forgets and locks'() {
    await connected;
    const cache = new CubeStoreCacheDriver(async () => driver);
    const key = `${randomUUID()}:key`;
    assert.equal(await cache.get(key), null);
    await cache.set(key, { value: ["it's", null] }, 60);
    assert.deepEqual(await cache.get(key), { value: ["it's", null] });
    assert.deepEqual(await cache.keysStartingWith(key.slice(0, 37)), [key]);
    await cache.remove(key);
    assert.deepEqual(await cache.keysStartingWith(key.slice(0, 37)), []);
    const lock = `lock:${randomUUID()}`;
    const inner = [];
    const outer = await cache.withLock(lock, async () => {
      inner.push(await cache.withLock(lock, async () => {}));
    });
    assert.deepEqual([outer, inner], [true, [false]]);
  },

  async 'QueryQueue executes each query once'() {
    await connected;
    const executed = [];
    const handler = async ({ name }) => {
      executed.push(name);
      return `result of ${name}`;
    };
    const { queue, log } = newQueryQueue({ driver, concurrency: 3, continueWaitTimeout: 5, handlers: { query: handler } });
    const names = ['a', 'b', 'c', 'd'];
    const ask = (name) =>
      executeUntilDone(queue, [name], { name }, { options: { requestId: `${randomUUID()}-span-1` } });
    // The first alone: there is a free slot for it.
    assert.equal(await ask('first'), 'result of first');
    assert.deepEqual(await Promise.all(names.map(ask)), names.map((name) => `result of ${name}`));
    assert.deepEqual(executed.sort(), [...names, 'first'].sort());
    assert.deepEqual(log.filter(({ message }) => message === 'Queue storage error'), []);
  },

  async 'refresh keys are numbers'() {
    await connected;
    const [{ refresh_key: key }] = await driver.query('SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key', []);
    assert.ok(Math.abs(Number(key) - Date.now() / 10_000) < 2, key);
  },

  async 'many waiters on one connection are all woken'() {
    if (!has.ids) {
      return 'a result by its path is for one reader';
    }
    const queue = await openQueue({ concurrency: 20 });
    const items = await Promise.all(Array.from({ length: 20 }, (_, index) => queue.add([index])));
    const waiting = items.map((item) => queue.blocking(item));
    await Promise.all(items.map((item) => queue.retrieve(item)));
    await Promise.all(items.map((item, index) => queue.ack(item, { result: index })));
    assert.deepEqual(await Promise.all(waiting), items.map((_, index) => ({ result: index })));
    return undefined;
  },
};
