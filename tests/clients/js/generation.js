'use strict';

// One face for six generations of the Cube client. Only signatures differ here; what goes over the wire is the
// unmodified packages' own doing.

const { createHash, randomUUID } = require('node:crypto');
const path = require('node:path');

// The native orchestrator is a switch before 1.6.50, and needs a binary.
process.env.CUBEJS_TESSERACT_ORCHESTRATOR = 'false';

const folder = path.resolve(process.env.CLIENT_FOLDER);
const version = path.basename(folder);
const [major, minor, patch] = version.split('.').map(Number);
const isSince = (a, b, c) => major - a || minor - b || patch - c;
const since = (text) => isSince(...text.split('.').map(Number)) >= 0;

const load = (name) => require(require.resolve(name, { paths: [folder] }));

const { CubeStoreDriver, CubeStoreQueueDriver, CubeStoreCacheDriver } = load('@cubejs-backend/cubestore-driver');
const QueryQueueModule = () => load('@cubejs-backend/query-orchestrator/dist/src/orchestrator/QueryQueue');
const ContinueWaitErrorModule = () => load('@cubejs-backend/query-orchestrator/dist/src/orchestrator/ContinueWaitError');

const has = {
  ids: since('0.33.2'),
  idsInLists: since('0.34.11'),
  extendedRetrieve: since('0.32.2') && !since('1.7.31'),
  processId: since('1.6.20'),
  exclusive: since('1.6.23'),
  externalId: since('1.6.34'),
  parameters: since('1.6.38'),
  fastTrack: since('1.7.26'),
  resends: since('1.7.0'),
  arrow: since('1.7.0'),
};

function newDriver(options = {}) {
  return new CubeStoreDriver({
    host: process.env.CUBEJS_CUBESTORE_HOST,
    port: process.env.CUBEJS_CUBESTORE_PORT,
    ...options,
  });
}

/** Every statement that this driver sends from now on, as {query, parameters, format}, before it is put into bytes. */
function recordStatements(driver) {
  const sent = [];
  const original = driver.connection.query;
  driver.connection.query = function query(text, ...rest) {
    // (text, parameters, options) since 1.7, before that (text, inlineTables, trace, parameters).
    const format = has.resends ? rest[1].responseFormat : 0;
    sent.push({ query: text, parameters: (has.resends ? rest[0] : rest[2]) || [], format });
    return original.call(this, text, ...rest);
  };
  return sent;
}

/** The types of all replies that this connected driver gets from now on: 2 is a result set, 3 an error, 4 Arrow. */
function recordReplies(driver) {
  const got = [];
  driver.connection.webSocket.on('message', (message) => {
    const bytes = new DataView(message.buffer, message.byteOffset, message.byteLength);
    const table = bytes.getUint32(0, true);
    const vtable = table - bytes.getInt32(table, true);
    got.push(bytes.getUint8(table + bytes.getUint16(vtable + 6, true)));
  });
  return got;
}

const newPrefix = () => `SQL_QUERY_${randomUUID()}_default`;

const keyAndId = (row) => (Array.isArray(row) ? { key: row[0], id: row[1] } : { key: row, id: null });

/** CubeStoreQueueDriver's connection. Methods take `item`, which is {key, id} as `add` gave it. */
class Queue {
  constructor(connection, prefix) {
    this.connection = connection;
    this.prefix = prefix;
  }

  static async open(options = {}) {
    const prefix = options.prefix || newPrefix();
    const driver = options.driver || newDriver();
    const queueDriver = new CubeStoreQueueDriver(async () => driver, {
      redisQueuePrefix: prefix,
      concurrency: 2,
      continueWaitTimeout: 1,
      orphanedTimeout: 60,
      heartBeatTimeout: 60,
      processUid: load('@cubejs-backend/shared').getProcessUid(),
      ...options,
    });
    return new Queue(await queueDriver.createConnection(), prefix);
  }

  async add(queryKey, { query = { sql: 'SELECT 1' }, priority = 0, handler = 'query', ...options } = {}) {
    const key = this.connection.redisHash(queryKey);
    const rest = [queryKey, handler, query, priority, { stageQueryKey: queryKey, requestId: 'r-span-1', ...options }];
    if (since('1.7.30')) {
      const [added, id, pending, , retrieved] = await this.connection.addToQueue(...rest);
      return { added: added === 1, key, id, pending, retrieved };
    }
    const now = Date.now();
    const [, ...afterKey] = rest;
    const answer = await this.connection.addToQueue(now, queryKey, now + 60_000, ...afterKey);
    const [added, id] = answer;
    return { added: added === 1, key, id, pending: answer[has.ids ? 2 : 3] };
  }

  /** {def, active, pending} when it was claimed, else null. */
  async retrieve({ key, id }) {
    const answer = await this.connection.retrieveForProcessing(key, id);
    if (!Array.isArray(answer)) {
      return answer && { def: answer.def, active: answer.active, pending: answer.queueSize };
    }
    const [added, retrievedId, active, pending, def] = answer;
    return added ? { def, active, pending, id: retrievedId } : null;
  }

  ack({ key, id }, result) {
    return this.#byItem('setResultAndRemoveQuery', key, [result], id);
  }

  merge({ key, id }, extra) {
    return this.#byItem('optimisticQueryUpdate', key, [extra], id);
  }

  #byItem(method, key, values, id) {
    const processingId = since('1.7.30') ? [] : ['processing-id'];
    return this.connection[method](key, ...values, ...processingId, id);
  }

  get({ key, id }) {
    return this.connection.getQueryDef(key, id);
  }

  cancel({ key, id }) {
    return this.connection.cancelQuery(key, id);
  }

  heartbeat({ key, id }) {
    return this.connection.updateHeartBeat(key, id);
  }

  result(queryKey, externalId) {
    return this.connection.getResult(queryKey, externalId);
  }

  blocking({ key, id }) {
    return has.ids ? this.connection.getResultBlocking(key, id) : this.connection.getResultBlockingByHash(key);
  }

  async list(method) {
    return (await this.connection[method]()).map(keyAndId);
  }

  async keys(method) {
    return (await this.list(method)).map(({ key }) => key);
  }
}

/** A QueryQueue with a quiet logger; `log` gathers its events. */
function newQueryQueue({ prefix = newPrefix(), driver = newDriver(), handlers = {}, stream, ...options } = {}) {
  const { QueryQueue } = QueryQueueModule();
  const log = [];
  const queue = new QueryQueue(prefix, {
    cacheAndQueueDriver: 'cubestore',
    cubeStoreDriverFactory: async () => driver,
    queryHandlers: { stream, ...handlers },
    streamHandler: stream,
    cancelHandlers: { query: async () => {} },
    continueWaitTimeout: 1,
    heartBeatInterval: 30,
    orphanedTimeout: 60,
    executionTimeout: 60,
    concurrency: 2,
    logger: (message, event) => log.push({ message, ...event }),
    ...options,
  });
  return { queue, log, driver, prefix };
}

const isContinueWait = (error) => error instanceof ContinueWaitErrorModule().ContinueWaitError;

/** What an API instance does: ask again while the answer is "Continue wait". */
async function executeUntilDone(queue, queryKey, query, { handler = 'query', priority = 10, options = {}, tries = 60 } = {}) {
  for (let left = tries; ; left -= 1) {
    try {
      return await queue.executeInQueue(handler, queryKey, query, priority, { stageQueryKey: queryKey, ...options });
    } catch (error) {
      if (!isContinueWait(error) || left <= 0) {
        throw error;
      }
    }
  }
}

const hashOf = (queryKey) => createHash('md5').update(JSON.stringify(queryKey)).digest('hex');

module.exports = {
  CubeStoreCacheDriver,
  CubeStoreQueueDriver,
  Queue,
  executeUntilDone,
  has,
  hashOf,
  isContinueWait,
  load,
  newDriver,
  newPrefix,
  newQueryQueue,
  recordReplies,
  recordStatements,
  since,
  version,
};
