'use strict';

// Decodes messages with the stand-in for the native decoder: reads a JSON array of base64 texts, prints a JSON array of
// {rows} or {refused}.

const path = require('node:path');

const { getCubestoreResult, parseCubestoreResultMessage } = require(
  path.resolve(process.env.CLIENT_FOLDER, 'node_modules/@cubejs-backend/native/index.node'),
);

async function decode(text) {
  try {
    return { rows: getCubestoreResult(await parseCubestoreResultMessage(Buffer.from(text, 'base64'))) };
  } catch (error) {
    return { refused: error.message };
  }
}

async function main() {
  let input = '';
  for await (const chunk of process.stdin) {
    input += chunk;
  }
  process.stdout.write(JSON.stringify(await Promise.all(JSON.parse(input).map(decode))));
}

main();
