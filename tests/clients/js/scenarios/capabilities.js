'use strict';

// What the client sends follows the version that the server announces (clients.md §1), and it works.
// ANNOUNCED is that version; CUBEJS_QUEUE_FAST_TRACK and CUBEJS_QUEUE_EXTERNAL_ID are the client's own switches.

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const path = require('node:path');
const { promisify } = require('node:util');
const { setTimeout: sleep } = require('node:timers/promises');
const {
  CubeStoreCacheDriver,
  Queue,
  executeUntilDone,
  has,
  hashOf,
  newDriver,
  newQueryQueue,
  recordReplies,
  recordStatements,
} = require('../generation');

const numbers = (text) => text.split('.').map(Number);

function announcedSince(text) {
  const [announced, wanted] = [numbers(process.env.ANNOUNCED), numbers(text)];
  const index = wanted.findIndex((part, at) => part !== announced[at]);
  return index === -1 || announced[index] > wanted[index];
}

const isOn = (name) => process.env[name] === 'true';

const expected = {
  exclusive: has.exclusive && announcedSince('1.6.22'),
  externalId: has.externalId && announcedSince('1.6.26') && isOn('CUBEJS_QUEUE_EXTERNAL_ID'),
  parameters: has.parameters && announcedSince('1.6.38'),
  arrow: has.arrow && announcedSince('1.6.66'),
  fastTrack: has.fastTrack && announcedSince('1.7.25') && isOn('CUBEJS_QUEUE_FAST_TRACK'),
};

/** A driver that has seen the version: the first statement of each goes out in the oldest form. */
async function openRecorded(options = {}) {
  const driver = newDriver();
  await driver.testConnection();
  return { driver, sent: recordStatements(driver), queue: await Queue.open({ driver, concurrency: 5, ...options }) };
}

const persistentKey = (name) => Object.assign([name, []], { persistent: true });

async function inAnotherProcess(...args) {
  const script = path.join(__dirname, '..', 'other-process.js');
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...args], { timeout: 30_000 });
  return JSON.parse(stdout);
}

module.exports = {
  async 'persistent queries belong to their process'() {
    const { sent, queue } = await openRecorded();
    const mine = await queue.add(persistentKey('stream'));
    const common = await queue.add(['common']);
    assert.match(mine.key, /^[0-9a-f]{32}@[0-9a-f-]{36}$/);
    assert.equal(sent[0].query.startsWith('QUEUE ADD EXCLUSIVE'), expected.exclusive, sent[0].query);
    assert.ok((await queue.keys('getToProcessQueries')).includes(mine.key));
    const other = await inAnotherProcess(queue.prefix, mine.key, common.key);
    assert.deepEqual(other.pending, expected.exclusive ? [common.key] : [mine.key, common.key]);
    assert.deepEqual(other.claimed, expected.exclusive ? [common.key] : [mine.key, common.key]);
    const claimed = await queue.retrieve(mine);
    assert.equal(Boolean(claimed), expected.exclusive);
  },

  async 'urgent persistent queries are claimed at their addition, and by their process alone'() {
    if (!expected.fastTrack) {
      return 'there is no fast track';
    }
    const { sent, queue } = await openRecorded({ concurrency: 1 });
    const claimed = await queue.add(persistentKey('claimed'), { priority: 10 });
    assert.ok(sent[0].query.startsWith('QUEUE ADD_AND_RETRIEVE EXCLUSIVE PRIORITY 10 '), sent[0].query);
    assert.deepEqual(claimed.retrieved.active, [claimed.key]);
    assert.equal(claimed.retrieved.def.queryKey[0], 'claimed');
    const waiting = await queue.add(persistentKey('waiting'), { priority: 10 });
    assert.deepEqual([waiting.added, waiting.pending, waiting.retrieved], [true, 1, null]);
    const other = await inAnotherProcess(queue.prefix, claimed.key, waiting.key);
    assert.deepEqual(other, { active: [], pending: [], claimed: [] });
    assert.equal(await queue.ack(claimed, { streamResult: true }), true);
    const again = await queue.add(persistentKey('waiting'), { priority: 10 });
    assert.deepEqual([again.added, again.id, again.retrieved.def.queryKey[0]], [false, waiting.id, 'waiting']);
    return undefined;
  },

  async 'results and cache values are native parameters'() {
    const { sent, queue, driver } = await openRecorded();
    const cache = new CubeStoreCacheDriver(async () => driver);
    const item = await queue.add(['native']);
    await queue.ack(item, { result: "it's" });
    await cache.set('app:k', "it's", 60);
    assert.equal(await cache.get('app:k'), "it's");
    const native = sent.filter(({ parameters }) => parameters.length > 0).map(({ query }) => query.trim());
    assert.deepEqual(native, expected.parameters ? ['QUEUE ACK ? ?', 'CACHE SET TTL ? ? ?', 'CACHE GET ?'] : []);
    assert.deepEqual(await queue.result(['native']), { result: "it's" });
  },

  async 'answers are Arrow where it is asked for'() {
    const { sent, queue, driver } = await openRecorded();
    const got = recordReplies(driver);
    const item = await queue.add(['arrow']);
    await queue.list('getToProcessQueries');
    await queue.heartbeat(item);
    await queue.retrieve(item);
    assert.equal(await queue.ack(item, { result: null }), true);
    assert.deepEqual(await queue.result(['arrow']), { result: null });
    assert.equal(await queue.result(['arrow']), null);
    assert.deepEqual([...new Set(sent.map(({ format }) => format))], [expected.arrow ? 1 : 0]);
    assert.equal(got.length, sent.length);
    assert.deepEqual([...new Set(got)], [expected.arrow ? 4 : 2]);
    await assert.rejects(driver.query('QUEUE FOO', []), /Unknown queue command: foo/);
    assert.equal(got.at(-1), 3);
  },

  async 'native parameters of every type arrive'() {
    if (!has.parameters) {
      return 'it has none';
    }
    const { driver, queue } = await openRecorded();
    const native = async (query, values, options = {}) =>
      Array.from(await driver.query(query, values, { sendParameters: true, ...options }));
    // As text: this client's own reader knows no Arrow column of bytes.
    const asText = (query, values) => native(query, values, { responseFormat: 0 });
    const bytes = Buffer.from([0, 255, 39, 92, 16]);
    const [{ id }] = await native('QUEUE ADD PRIORITY ? ORPHANED ? EXTERNAL_ID ? ? ?', [
      -5, 60, 'external', `${queue.prefix}:k`, bytes,
    ]);
    assert.deepEqual(await asText('QUEUE GET ?', [Number(id)]), [{ payload: '0x00FF275C10', extra: null }]);
    const [{ payload }] = await asText('QUEUE RETRIEVE CONCURRENCY ? ?', [1, `${queue.prefix}:k`]);
    assert.equal(payload, '0x00FF275C10');
    assert.deepEqual(await native('QUEUE ACK ? ?', [Number(id), bytes]), [{ success: 'true' }]);
    assert.deepEqual(await asText('QUEUE RESULT EXTERNAL_ID ? ?', ['external', `${queue.prefix}:k`]), [
      { payload: '0x00FF275C10', type: 'success', id, external_id: 'external' },
    ]);
    await native('CACHE SET TTL ? ? ?', [60, `${queue.prefix}:bytes`, Buffer.alloc(0)]);
    assert.deepEqual(await asText('CACHE GET ?', [`${queue.prefix}:bytes`]), [{ value: '0x' }]);
    await native('CACHE SET NX TTL ? ? ?', [60, `${queue.prefix}:text`, "it's ? 'text' \\ \0 😀"]);
    assert.deepEqual(await native('CACHE GET ?', [`${queue.prefix}:text`]), [{ value: "it's ? 'text' \\ \0 😀" }]);
    assert.deepEqual(await native('SELECT ? AS i, ? AS f, ? AS b, ? AS n', [7, 1.5, true, null]), [
      { i: '7', f: '1.5', b: 'true', n: null },
    ]);
    await assert.rejects(native('CACHE SET TTL ? ? ?', [0.5, 'k', 'v']), /Internal: /);
    if (expected.arrow) {
      await assert.rejects(native('CACHE GET ?', [`${queue.prefix}:bytes`]), /Arrow type Binary is not supported/);
    }
    return undefined;
  },

  async 'urgent queries are added and claimed in one step'() {
    const executed = [];
    const driver = newDriver();
    await driver.testConnection();
    const sent = recordStatements(driver);
    const handler = async ({ name }) => {
      executed.push(name);
      await sleep(50);
      return name;
    };
    const { queue, log } = newQueryQueue({ driver, concurrency: 2, continueWaitTimeout: 10, handlers: { query: handler } });
    const names = Array.from({ length: 20 }, (_, index) => `q${index}`);
    const asked = names.flatMap((name) => [name, name]);
    const answers = await Promise.all(asked.map((name) => executeUntilDone(queue, [name], { name })));
    assert.deepEqual(answers, asked);
    if (has.ids) {
      assert.deepEqual(executed.slice().sort(), names.slice().sort());
    }
    const word = expected.fastTrack ? 'QUEUE ADD_AND_RETRIEVE' : 'QUEUE ADD';
    const additions = sent.filter(({ query }) => query.startsWith('QUEUE ADD')).map(({ query }) => query.split(' PRIORITY')[0]);
    assert.deepEqual([...new Set(additions)], [word]);
    assert.equal(log.some((event) => event.fastTrack === true), expected.fastTrack);
    assert.deepEqual(log.filter(({ message }) => message === 'Queue storage error'), []);
  },

  async 'a background query is never on the fast track'() {
    const { sent, queue } = await openRecorded();
    await queue.add(['background'], { priority: 0 });
    assert.ok(sent[0].query.startsWith('QUEUE ADD PRIORITY'), sent[0].query);
  },

  async 'a request can read its result again'() {
    const { sent, queue } = await openRecorded();
    const externalId = '11111111-2222-4333-8444-555555555555';
    const item = await queue.add(['mine'], { externalId });
    assert.equal(sent[0].query.includes('EXTERNAL_ID'), expected.externalId, sent[0].query);
    await queue.retrieve(item);
    await queue.ack(item, { result: 'r' });
    assert.deepEqual(await queue.result(['mine'], externalId), { result: 'r' });
    assert.deepEqual(await queue.result(['mine'], externalId), expected.externalId ? { result: 'r' } : null);
    if (expected.externalId) {
      assert.deepEqual(await queue.result(['mine']), { result: 'r' }, 'another request takes it once');
      assert.equal(await queue.result(['mine']), null);
      assert.deepEqual(await queue.result(['mine'], externalId), { result: 'r' });
    }
  },

  async 'the key of a query is its digest'() {
    const { queue } = await openRecorded();
    assert.equal((await queue.add(['SELECT 1', []])).key, hashOf(['SELECT 1', []]));
  },
};
