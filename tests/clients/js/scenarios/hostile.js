'use strict';

// Texts that break a careless server, through the client's own escaping and encoding, and back exactly.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { CubeStoreCacheDriver, Queue, newDriver, since } = require('../generation');

const EVERY_ASCII = String.fromCharCode(...Array.from({ length: 128 }, (_, code) => code));

const TEXTS = {
  empty: '',
  quotes: `'"\`''""\\'`,
  backslashes: '\\ \\\\ \\n \\0 \\',
  'statement in a string': "'; QUEUE CLEAR; --",
  comments: '-- not a comment /* nor this */ # nor that',
  placeholders: '? ?1 $1 :name %s',
  'every ASCII character': EVERY_ASCII,
  'NUL and 0x1A': '\0\x1a\0\x1a',
  'line ends': 'a\r\nb\rc\nd\u2028e\u2029f\u0085g\vh\fi',
  emoji: '😀👩‍👩‍👧‍👦 𝒳 🏳️‍🌈',
  'text of many scripts': 'äöüß 漢字 العربية हिन्दी ไทย',
  'byte order mark': '\ufeffafter',
  'edges of Unicode': '\uffff\ufffe\u{10ffff}\u0000',
};

// JSON.stringify writes a lone surrogate as an escape, so in values it survives; a key is put into UTF-8 as it is.
const LONE_SURROGATES = 'a\ud800b\udfffc\udc00\ud800';

// Quotes and backslashes are escaped once for JSON and again for SQL.
const MIB5 = 5 * 1024 * 1024;
const BIG = {
  // The oldest encoder takes seconds for each: one is enough there.
  ...(since('0.32.0') ? { '5 MB of quotes': "'".repeat(MIB5) } : {}),
  '5 MB of everything': `${EVERY_ASCII}äöü漢字😀\u2028`.repeat(MIB5 / 150),
};

function newCache() {
  const driver = newDriver();
  return new CubeStoreCacheDriver(async () => driver);
}

/** Through ADD, GET, RETRIEVE, MERGE_EXTRA, ACK, RESULT, RESULT_BLOCKING and LIST WITH_PAYLOAD. */
async function roundTripInQueue(text) {
  const queue = await Queue.open({ continueWaitTimeout: 30 });
  const queryKey = [text, []];
  const item = await queue.add(queryKey, { query: { sql: text } });
  assert.equal((await queue.get(item)).query.sql, text, 'GET');
  const [, , defs] = await queue.connection.getQueryStageState(false);
  assert.equal(defs[item.key].query.sql, text, 'LIST WITH_PAYLOAD');
  const claimed = await queue.retrieve(item);
  assert.equal(claimed.def.query.sql, text, 'RETRIEVE');
  assert.deepEqual(claimed.def.queryKey, queryKey);
  await queue.merge(item, { cancelHandler: text });
  assert.equal((await queue.get(item)).cancelHandler, text, 'MERGE_EXTRA');
  const waiting = queue.blocking(item);
  await queue.get(item);
  await queue.ack(item, { result: [{ text }] });
  assert.equal((await waiting).result[0].text, text, 'RESULT_BLOCKING');
}

/** A big one only through ADD, RETRIEVE, ACK and RESULT_BLOCKING: old encoders take seconds for each copy. */
async function bigRoundTripInQueue(text) {
  const queue = await Queue.open({ continueWaitTimeout: 30 });
  const item = await queue.add(['big'], { query: { sql: text } });
  assert.ok((await queue.retrieve(item)).def.query.sql === text, 'RETRIEVE');
  const waiting = queue.blocking(item);
  await queue.ack(item, { result: [{ text }] });
  assert.ok((await waiting).result[0].text === text, 'RESULT_BLOCKING');
}

async function roundTripInCache(text, key = `app:${randomUUID()}`) {
  const cache = newCache();
  await cache.set(key, text, 60);
  assert.ok((await cache.get(key)) === text, 'GET');
}

const each = (texts, roundTrip) => async () => {
  for (const [name, text] of Object.entries(texts)) {
    try {
      await roundTrip(text);
    } catch (error) {
      error.message = `${name}: ${error.message.slice(0, 500)}`;
      throw error;
    }
  }
};

module.exports = {
  'queue payloads come back exactly': each({ ...TEXTS, LONE_SURROGATES }, roundTripInQueue),

  'cache values come back exactly': each({ ...TEXTS, LONE_SURROGATES }, roundTripInCache),

  async 'cache keys and their prefixes may be any text'() {
    const cache = newCache();
    for (const [name, text] of Object.entries(TEXTS)) {
      const key = `${randomUUID()}:${text.replaceAll(':', '')}`;
      await cache.set(key, name, 60);
      assert.equal(await cache.get(key), name);
      assert.deepEqual(await cache.keysStartingWith(key.slice(0, 37)), [key], name);
      await cache.remove(key);
      assert.equal(await cache.get(key), null);
    }
  },

  async 'a lone surrogate in a key arrives as U+FFFD'() {
    const [cache, prefix] = [newCache(), randomUUID()];
    if (!since('0.32.0')) {
      // The encoder of that time makes bytes of it that are not UTF-8.
      await assert.rejects(cache.set(`${prefix}:${LONE_SURROGATES}`, 1, 60), /not UTF-8/);
      return;
    }
    await cache.set(`${prefix}:${LONE_SURROGATES}`, 1, 60);
    assert.deepEqual(await cache.keysStartingWith(`${prefix}:`), [`${prefix}:${LONE_SURROGATES.toWellFormed()}`]);
    assert.equal(await cache.get(`${prefix}:${LONE_SURROGATES.toWellFormed()}`), 1);
  },

  async 'an error text is carried to the waiter exactly'() {
    const queue = await Queue.open();
    const item = await queue.add(['error']);
    await queue.retrieve(item);
    await queue.ack(item, { error: EVERY_ASCII });
    assert.deepEqual(await queue.blocking(item), { error: EVERY_ASCII });
  },

  'queue payloads of 5 MB come back exactly': each(BIG, bigRoundTripInQueue),

  'cache values of 5 MB come back exactly': each(BIG, roundTripInCache),
};
