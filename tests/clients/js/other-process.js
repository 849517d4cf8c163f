'use strict';

// Another Node process at the same queue, and so another process id: prints what it sees of a prefix, and what it gets
// when it asks for each key given: {active, pending, claimed}.

const { Queue } = require('./generation');

async function main([prefix, ...keys]) {
  const queue = await Queue.open({ prefix, concurrency: 100 });
  await queue.connection.driver.testConnection();
  const [active, pending] = [await queue.keys('getActiveQueries'), await queue.keys('getToProcessQueries')];
  const claimed = [];
  for (const key of keys) {
    if (await queue.retrieve({ key, id: null })) {
      claimed.push(key);
    }
  }
  process.stdout.write(JSON.stringify({ active, pending, claimed }));
}

main(process.argv.slice(2)).then(() => process.exit(0));
