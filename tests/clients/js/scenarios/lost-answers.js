'use strict';

// The connection dies after the server acted and before its answer arrived: the client sends the statement again, and
// must get the first answer, not that of a second execution (wire.md §3).

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { CubeStoreCacheDriver, Queue, has, newDriver } = require('../generation');
const { LossyProxy } = require('../lossy-proxy');

/** What `call` gives when its first answer is lost. */
async function withLostAnswer(proxy, call) {
  proxy.swallow();
  const before = proxy.swallowed;
  const answer = call();
  for (const end = Date.now() + 5_000; proxy.swallowed === before; await sleep(10)) {
    assert.ok(Date.now() < end, 'the server answered');
  }
  proxy.cut();
  return answer;
}

async function openThroughProxy(options = {}) {
  const proxy = await LossyProxy.open();
  const driver = newDriver({ host: '127.0.0.1', port: proxy.port });
  await driver.testConnection();
  return { proxy, driver, queue: await Queue.open({ driver, ...options }) };
}

module.exports = {
  async 'a claim is given again'() {
    const { proxy, queue } = await openThroughProxy();
    const item = await queue.add(['claimed'], { query: { sql: 'X' } });
    const claimed = await withLostAnswer(proxy, () => queue.retrieve(item));
    assert.deepEqual(claimed?.def.query, { sql: 'X' });
    assert.deepEqual(await queue.keys('getActiveQueries'), [item.key]);
    proxy.close();
  },

  async 'an addition is told as an addition again'() {
    const { proxy, queue } = await openThroughProxy();
    const item = await withLostAnswer(proxy, () => queue.add(['added']));
    assert.equal(item.added, true);
    assert.equal(item.pending, 1);
    proxy.close();
  },

  async 'an addition that claimed is told as a claim again'() {
    if (process.env.CUBEJS_QUEUE_FAST_TRACK !== 'true') {
      return 'its fast track is off';
    }
    const { proxy, queue, driver } = await openThroughProxy();
    if (!(await driver.hasCapability('queueAddAndRetrieve'))) {
      return 'the server announces no fast track';
    }
    const item = await withLostAnswer(proxy, () => queue.add(['claimed'], { query: { sql: 'X' }, priority: 10 }));
    assert.equal(item.added, true);
    assert.deepEqual(item.retrieved?.def.query, { sql: 'X' });
    assert.deepEqual(item.retrieved.active, [item.key]);
    assert.deepEqual(await queue.keys('getActiveQueries'), [item.key]);
    proxy.close();
    return undefined;
  },

  async 'a stored result is told as stored again'() {
    const { proxy, queue } = await openThroughProxy();
    const item = await queue.add(['acked']);
    await queue.retrieve(item);
    assert.equal(await withLostAnswer(proxy, () => queue.ack(item, { result: 1 })), true);
    proxy.close();
  },

  async 'a result that is read once is given again'() {
    const { proxy, queue } = await openThroughProxy();
    const item = await queue.add(['read once']);
    await queue.ack(item, { result: 7 });
    assert.deepEqual(await withLostAnswer(proxy, () => queue.result(['read once'])), { result: 7 });
    assert.equal(await queue.result(['read once']), null);
    proxy.close();
  },

  async 'a lock that was taken is told as taken again'() {
    const { proxy, driver } = await openThroughProxy();
    const cache = new CubeStoreCacheDriver(async () => driver);
    let inside = 0;
    const enter = async () => {
      inside += 1;
    };
    assert.equal(await withLostAnswer(proxy, () => cache.withLock(`lock:${randomUUID()}`, enter)), true);
    assert.equal(inside, 1);
    proxy.close();
  },

  async 'a waiter whose connection died is woken on its next one'() {
    const { proxy, queue } = await openThroughProxy({ continueWaitTimeout: 20 });
    const item = await queue.add(['waited for']);
    const other = await Queue.open({ prefix: queue.prefix });
    const waiting = queue.blocking(item);
    await sleep(200);
    proxy.cut();
    await sleep(200);
    await other.retrieve(item);
    await other.ack(item, { result: 'woken' });
    assert.deepEqual(await waiting, { result: 'woken' });
    proxy.close();
  },

  async 'a counter is not moved twice'() {
    const { proxy, driver } = await openThroughProxy();
    const key = `${randomUUID()}:PROCESSING_COUNTER`;
    const [{ value }] = await withLostAnswer(proxy, () => driver.query('CACHE INCR ?', [key]));
    assert.equal(value, '1');
    assert.equal((await driver.query('CACHE INCR ?', [key]))[0].value, '2');
    proxy.close();
  },

  async 'many under way survive a cut'() {
    if (!has.resends) {
      return 'it loses messages when it sends many again';
    }
    const { proxy, queue } = await openThroughProxy({ concurrency: 100, continueWaitTimeout: 20 });
    const items = await Promise.all(Array.from({ length: 100 }, (_, index) => queue.add([index])));
    const waiting = items.map((item) => queue.blocking(item));
    const claimed = await withLostAnswer(proxy, () => Promise.all(items.map((item) => queue.retrieve(item))));
    assert.equal(claimed.filter(Boolean).length, 100);
    const stored = await withLostAnswer(proxy, () =>
      Promise.all(items.map((item, index) => queue.ack(item, { result: index }))),
    );
    assert.ok(stored.every((success) => success === true));
    assert.deepEqual(await Promise.all(waiting), items.map((_, index) => ({ result: index })));
    proxy.close();
  },
};
