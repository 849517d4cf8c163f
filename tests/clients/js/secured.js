'use strict';

// node secured.js: one round of queue and cache with a driver that has CLIENT_URL, if it is set, else what the
// CUBEJS_CUBESTORE_* variables say. Prints {done} or {refused: text}.

const { CubeStoreCacheDriver, newDriver, Queue } = require('./generation');

const url = process.env.CLIENT_URL;
const driver = newDriver(url ? { url } : {});

async function round() {
  await driver.testConnection();
  const queue = await Queue.open({ driver });
  const item = await queue.add(['secured']);
  const claimed = await queue.retrieve(item);
  await queue.ack(item, { result: 'x' });
  const result = await queue.blocking(item);
  const cache = new CubeStoreCacheDriver(async () => driver);
  await cache.set(queue.prefix, { value: 1 }, 60);
  return { claimed: claimed !== null, result, cached: await cache.get(queue.prefix) };
}

round().then(
  (done) => console.log(JSON.stringify({ done })),
  (error) => console.log(JSON.stringify({ refused: String(error.message || error) })),
).then(() => process.exit(0));
