'use strict';

// CubeStoreQueueDriver: what each of its methods must give (clients.md §2, §3).

const assert = require('node:assert/strict');
const { setTimeout: sleep } = require('node:timers/promises');
const { Queue, has, hashOf, newDriver } = require('../generation');

const claimAll = async (queue, items) => (await Promise.all(items.map((item) => queue.retrieve(item)))).filter(Boolean);

module.exports = {
  async 'the connection test passes'() {
    await newDriver().testConnection();
  },

  async 'an added query is pending, and told apart from one that was there'() {
    const queue = await Queue.open();
    const first = await queue.add(['SELECT 1', []]);
    const again = await queue.add(['SELECT 1', []], { query: { sql: 'other' }, priority: 5 });
    const second = await queue.add(['SELECT 2', []]);
    assert.equal(first.added, true);
    assert.equal(first.pending, 1);
    assert.equal(again.added, false);
    assert.equal(again.pending, 1);
    assert.equal(second.pending, 2);
    if (has.ids) {
      assert.ok(Number.isSafeInteger(first.id));
      assert.equal(again.id, first.id);
      assert.ok(second.id > first.id);
    }
    assert.deepEqual((await queue.get(first)).query, { sql: 'SELECT 1' });
  },

  async 'lists go by priority, then by age'() {
    const queue = await Queue.open();
    const keys = {};
    for (const [name, priority] of [['low', -10], ['early', 0], ['high', 10], ['late', 0], ['highest', 10_000]]) {
      keys[name] = (await queue.add([name], { priority })).key;
    }
    const expected = ['highest', 'high', 'early', 'late', 'low'].map((name) => keys[name]);
    assert.deepEqual(await queue.keys('getToProcessQueries'), expected);
    const [active, pending] = await queue.connection.getActiveAndToProcess();
    assert.deepEqual(active, []);
    assert.deepEqual(pending.map((row) => (Array.isArray(row) ? row[0] : row)), expected);
  },

  async 'no more than the concurrency are claimed at the same time'() {
    const queue = await Queue.open({ concurrency: 3 });
    const items = await Promise.all(Array.from({ length: 10 }, (_, index) => queue.add([index])));
    const claimed = await claimAll(queue, items);
    assert.equal(claimed.length, 3);
    assert.equal((await queue.list('getActiveQueries')).length, 3);
    assert.equal((await queue.list('getToProcessQueries')).length, 7);
    const active = (await queue.list('getActiveQueries'))[0];
    assert.equal(await queue.ack(active, { result: 1 }), true);
    assert.equal((await claimAll(queue, items)).length, 1);
  },

  async 'a claimed query carries its definition and the keys at work'() {
    const queue = await Queue.open();
    const first = await queue.add(['a'], { query: { sql: 'A' } });
    const second = await queue.add(['b'], { query: { sql: 'B' } });
    const one = await queue.retrieve(first);
    const two = await queue.retrieve(second);
    assert.deepEqual(one.def.query, { sql: 'A' });
    assert.deepEqual(two.def.queryKey, ['b']);
    assert.equal(two.active.at(-1), second.key);
    if (has.extendedRetrieve || has.fastTrack) {
      assert.deepEqual(two.active, [first.key, second.key]);
      assert.equal(one.pending, 1);
      assert.equal(two.pending, 0);
    }
    assert.equal(await queue.retrieve(first), null);
    assert.equal(await queue.retrieve({ key: hashOf(['unknown']), id: null }), null);
  },

  async 'one of many that ask at the same time claims it'() {
    const prefix = (await Queue.open()).prefix;
    const queues = await Promise.all(Array.from({ length: 8 }, () => Queue.open({ prefix, concurrency: 8 })));
    const item = await queues[0].add(['contended']);
    const claimed = await Promise.all(queues.map((queue) => queue.retrieve(item)));
    assert.equal(claimed.filter(Boolean).length, 1);
  },

  async 'a result by its key is given once'() {
    const queue = await Queue.open();
    const item = await queue.add(['once']);
    assert.equal(await queue.result(['once']), null);
    await queue.retrieve(item);
    assert.equal(await queue.ack(item, { result: [{ n: 1 }] }), true);
    assert.deepEqual(await queue.result(['once']), { result: [{ n: 1 }] });
    assert.equal(await queue.result(['once']), null);
    assert.equal(await queue.get(item), null);
  },

  async 'a waiter is woken by the answer'() {
    const queue = await Queue.open({ continueWaitTimeout: 20 });
    const item = await queue.add(['waited for']);
    await queue.retrieve(item);
    const started = Date.now();
    const waiters = Array.from({ length: has.ids ? 20 : 1 }, () => queue.blocking(item));
    await sleep(100);
    await queue.ack(item, { result: 'done' });
    for (const result of await Promise.all(waiters)) {
      assert.deepEqual(result, { result: 'done' });
    }
    assert.ok(Date.now() - started < 10_000);
    if (has.ids) {
      assert.deepEqual(await queue.blocking(item), { result: 'done' }, 'by its id it can be read again');
    }
  },

  async 'a waiter whose time is over gets nothing'() {
    const queue = await Queue.open({ continueWaitTimeout: 1 });
    const item = await queue.add(['slow']);
    const started = Date.now();
    assert.equal(await queue.blocking(item), null);
    const waited = Date.now() - started;
    assert.ok(waited >= 950 && waited < 3_000, `${waited} ms`);
  },

  async 'an answer that nobody expects is told from a stored one'() {
    const queue = await Queue.open();
    const item = await queue.add(['cancelled']);
    await queue.cancel(item);
    assert.equal(await queue.ack(item, { result: 1 }), !has.ids);
    assert.equal(await queue.result(['cancelled']), null);
  },

  async 'cancelling gives the definition, and only once'() {
    const queue = await Queue.open();
    const item = await queue.add(['x'], { query: { sql: 'X' } });
    await queue.retrieve(item);
    await queue.merge(item, { startQueryTime: 5 });
    const def = await queue.cancel(item);
    assert.deepEqual(def.query, { sql: 'X' });
    assert.equal(def.startQueryTime, 5);
    assert.equal(await queue.cancel(item), null);
    assert.deepEqual(await queue.keys('getActiveQueries'), []);
    const again = await queue.add(['x']);
    assert.equal(again.added, true);
    if (has.ids) {
      assert.ok(again.id > item.id);
    }
  },

  async 'extras are merged over the definition'() {
    const queue = await Queue.open();
    const item = await queue.add(['extra']);
    await queue.merge(item, { startQueryTime: 1, keep: 'ü' });
    await queue.merge(item, { startQueryTime: 2, cancelHandler: { a: [1, null] } });
    const def = await queue.get(item);
    assert.equal(def.startQueryTime, 2);
    assert.equal(def.keep, 'ü');
    assert.deepEqual(def.cancelHandler, { a: [1, null] });
    assert.deepEqual((await queue.retrieve(item)).def.cancelHandler, { a: [1, null] });
  },

  async 'the stage state tells what is pending and what is at work'() {
    const queue = await Queue.open();
    const active = await queue.add(['active'], { query: { sql: 'A' } });
    const pending = await queue.add(['pending'], { query: { sql: 'P' } });
    await queue.retrieve(active);
    const [activeKeys, toProcess, defs] = await queue.connection.getQueryStageState(false);
    assert.deepEqual(activeKeys, [active.key]);
    assert.ok(toProcess.includes(pending.key));
    assert.deepEqual(defs[pending.key].query, { sql: 'P' });
    assert.deepEqual(defs[active.key].stageQueryKey, ['active']);
    const [onlyActive, , none] = await queue.connection.getQueryStageState(true);
    assert.deepEqual(onlyActive, [active.key]);
    assert.deepEqual(none, {});
  },

  async 'stalled is what no longer beats'() {
    const queue = await Queue.open({ heartBeatTimeout: 2, concurrency: 3 });
    const dead = await queue.add(['dead']);
    const alive = await queue.add(['alive']);
    await queue.add(['pending']);
    await queue.retrieve(dead);
    await queue.retrieve(alive);
    assert.deepEqual(await queue.keys('getStalledQueries'), []);
    for (let beat = 0; beat < 5; beat += 1) {
      await sleep(500);
      await queue.heartbeat(alive);
    }
    assert.deepEqual(await queue.keys('getStalledQueries'), [dead.key]);
    assert.deepEqual(await queue.list('getQueriesToCancel'), await queue.list('getStalledQueries'));
    const [stalled] = await queue.list('getStalledQueries');
    if (has.idsInLists) {
      assert.equal(stalled.id, dead.id);
    }
    const [def] = await queue.connection.getQueryAndRemove(stalled.key, stalled.id);
    assert.deepEqual(def.queryKey, ['dead']);
    assert.deepEqual(await queue.keys('getActiveQueries'), [alive.key]);
  },

  async 'orphaned is what waits too long, by the queue or by its own limit'() {
    const queue = await Queue.open({ orphanedTimeout: 2 });
    const byQueue = await queue.add(['by the queue']);
    const longer = await queue.add(['own limit, longer'], { orphanedTimeout: 3600 });
    const shorter = await queue.add(['own limit, shorter'], { orphanedTimeout: 1 });
    const active = await queue.add(['active']);
    await queue.retrieve(active);
    await sleep(2_300);
    const orphaned = await queue.keys('getOrphanedQueries');
    assert.deepEqual(orphaned, [byQueue.key, shorter.key]);
    assert.ok(!orphaned.includes(longer.key));
    assert.deepEqual(await queue.keys('getQueriesToCancel'), orphaned);
  },

  async 'queues of other prefixes are apart'() {
    const [one, other] = [await Queue.open(), await Queue.open()];
    const item = await one.add(['same']);
    const twin = await other.add(['same']);
    assert.equal(item.key, twin.key);
    assert.equal(twin.added, true);
    assert.equal(twin.pending, 1);
    await one.cancel(item);
    assert.deepEqual(await other.keys('getToProcessQueries'), [twin.key]);
  },

  async 'refresh keys are numbers of the clock'() {
    const driver = newDriver();
    const value = async (sql) => Object.values((await driver.query(sql, []))[0])[0];
    const near = (text, expected) => {
      assert.match(text, /^-?\d+$/);
      assert.ok(Math.abs(Number(text) - expected) <= 1, `${text} is not near ${expected}`);
    };
    const now = Date.now() / 1000;
    const rows = await driver.query('SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key', []);
    assert.equal(rows.length, 1);
    near(rows[0].refresh_key, Math.floor(now / 10));
    near(await value('SELECT FLOOR((-21600 + UNIX_TIMESTAMP()) / 3600) as refresh_key'), Math.floor((now - 21600) / 3600));
    near(
      await value('SELECT FLOOR((3600 + UNIX_TIMESTAMP() - 86400) / 60) as refresh_key'),
      Math.floor((now + 3600 - 86400) / 60),
    );
  },

  async 'an error of the server is the error of the call'() {
    await assert.rejects(newDriver().query('QUEUE FOO', []), /Unknown queue command: foo/);
  },

  async 'many calls are under way on one connection'() {
    const driver = newDriver();
    const queue = await Queue.open({ driver, concurrency: 500, continueWaitTimeout: 30 });
    const items = await Promise.all(Array.from({ length: 500 }, (_, index) => queue.add([index])));
    assert.equal(new Set(items.map(({ key }) => key)).size, 500);
    const waiting = items.map((item) => queue.blocking(item));
    await Promise.all(items.map((item) => queue.retrieve(item)));
    await Promise.all(items.map((item, index) => queue.ack(item, { result: index })));
    (await Promise.all(waiting)).forEach((answer, index) => assert.deepEqual(answer, { result: index }));
  },
};
