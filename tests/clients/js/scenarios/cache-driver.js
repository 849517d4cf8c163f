'use strict';

// CubeStoreCacheDriver (clients.md §2).

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { CubeStoreCacheDriver, newDriver } = require('../generation');

function newCache() {
  const driver = newDriver();
  return new CubeStoreCacheDriver(async () => driver);
}

const newApp = () => `app#${randomUUID()}`;

module.exports = {
  async 'the connection test passes'() {
    await newCache().testConnection();
  },

  async 'a value comes back as it was set'() {
    const [cache, key] = [newCache(), `${newApp()}:SQL_QUERY_RESULT:a`];
    assert.equal(await cache.get(key), null);
    const value = { time: 1, result: [{ a: null, b: 'x"\'\\' }], nested: { deep: [[], {}] } };
    await cache.set(key, value, 60);
    assert.deepEqual(await cache.get(key), value);
    await cache.set(key, 0, 60);
    assert.equal(await cache.get(key), 0);
    await cache.remove(key);
    assert.equal(await cache.get(key), null);
    await cache.remove(key);
  },

  async 'a value is gone when its time is over'() {
    const [cache, key] = [newCache(), `${newApp()}:k`];
    await cache.set(key, 'short', 1);
    await sleep(1_100);
    assert.equal(await cache.get(key), null);
    await cache.set(key, 'long', 60);
    await sleep(1_100);
    assert.equal(await cache.get(key), 'long');
  },

  async 'keys are listed by their prefix'() {
    const [cache, app] = [newCache(), newApp()];
    await cache.set(`${app}:one`, 1, 60);
    await cache.set(`${app}:two:`, 2, 60);
    await cache.set(`${app}:two`, 2, 60);
    await cache.set(`${app}x:three`, 3, 60);
    await cache.set(`${app}:sub:four`, 4, 60);
    assert.deepEqual((await cache.keysStartingWith(`${app}:`)).sort(), [`${app}:one`, `${app}:two`]);
    await cache.remove(`${app}:one`);
    assert.deepEqual(await cache.keysStartingWith(`${app}:`), [`${app}:two`]);
    assert.equal(await cache.get(`${app}:two:`), 2);
  },

  async 'a lock is held by one, and free afterwards'() {
    const [cache, key] = [newCache(), `lock:${randomUUID()}`];
    let inside = 0;
    const tries = Array.from({ length: 10 }, () =>
      cache.withLock(key, async () => {
        inside += 1;
        await sleep(200);
      }),
    );
    const taken = await Promise.all(tries);
    assert.equal(taken.filter(Boolean).length, 1);
    assert.equal(inside, 1);
    assert.equal(await cache.withLock(key, async () => {}), true);
  },

  async 'a lock that is not freed ends with its time'() {
    const [cache, key] = [newCache(), `lock:${randomUUID()}`];
    assert.equal(await cache.withLock(key, async () => {}, 1, false), true);
    assert.equal(await cache.withLock(key, async () => {}, 1, false), false);
    await sleep(1_100);
    assert.equal(await cache.withLock(key, async () => {}, 1, false), true);
  },

  async 'a lock is freed after an error'() {
    const [cache, key] = [newCache(), `lock:${randomUUID()}`];
    await assert.rejects(
      cache.withLock(key, async () => {
        throw new Error('inside');
      }),
      /inside/,
    );
    assert.equal(await cache.withLock(key, async () => {}), true);
  },

  async 'what one process sets another sees'() {
    const [writer, reader, key] = [newCache(), newCache(), `${newApp()}:shared`];
    await writer.set(key, [1, 2], 60);
    assert.deepEqual(await reader.get(key), [1, 2]);
  },
};
