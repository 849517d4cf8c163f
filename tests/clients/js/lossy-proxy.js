'use strict';

// A TCP proxy before the server that can swallow answers and drop its connections.

const net = require('node:net');

class LossyProxy {
  #server;

  #pairs = new Set();

  #swallows = false;

  /** Bytes of answers that never arrived. */
  swallowed = 0;

  static async open() {
    const proxy = new LossyProxy();
    proxy.#server = net.createServer((client) => proxy.#connect(client));
    await new Promise((resolve) => {
      proxy.#server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port() {
    return this.#server.address().port;
  }

  #connect(client) {
    const upstream = net.connect(Number(process.env.CUBEJS_CUBESTORE_PORT), process.env.CUBEJS_CUBESTORE_HOST);
    const pair = { client, upstream };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      socket.on('error', end);
      socket.on('close', end);
    }
    client.on('data', (data) => upstream.write(data));
    upstream.on('data', (data) => {
      if (this.#swallows) {
        this.swallowed += data.length;
      } else {
        client.write(data);
      }
    });
  }

  swallow() {
    this.#swallows = true;
  }

  /** End every connection, as a load balancer does; new ones pass everything. */
  cut() {
    this.#swallows = false;
    for (const { client, upstream } of this.#pairs) {
      client.destroy();
      upstream.destroy();
    }
  }

  close() {
    this.cut();
    this.#server.close();
  }
}

module.exports = { LossyProxy };
