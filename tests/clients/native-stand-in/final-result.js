'use strict';

// The REST answer of a regular query: rows of database aliases become rows of members.

const GRANULARITIES = new Set(['second', 'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year']);

function withoutZone(value) {
  return typeof value === 'string' ? value.replace(' ', 'T').replace(/Z$/, '') : value;
}

function membersOf({ aliasToMemberNameMap, annotation, query }) {
  const timeDimensions = new Map((query.timeDimensions || []).map((item) => [item.dimension, item.granularity]));
  return (alias, value) => {
    const member = aliasToMemberNameMap[alias] || alias;
    const [dimension, granularity] = [member.split('.').slice(0, 2).join('.'), member.split('.')[2]];
    if (GRANULARITIES.has(granularity)) {
      const both = [[member, withoutZone(value)]];
      return timeDimensions.get(dimension) === granularity ? [...both, [dimension, withoutZone(value)]] : both;
    }
    return [[member, annotation[member]?.type === 'time' ? withoutZone(value) : value]];
  };
}

/** The answer as JSON text in an ArrayBuffer-like, from rows of objects or from the columnar form. */
function finalResult(transform, rows, root) {
  const members = membersOf(transform);
  const data = rows.map((row) =>
    Object.fromEntries(Object.entries(row).flatMap(([alias, value]) => members(alias, value))),
  );
  return Buffer.from(JSON.stringify({ ...root, data }));
}

function rowsOfColumns({ members, columns }) {
  const length = columns.length ? columns[0].length : 0;
  return Array.from({ length }, (_, row) =>
    Object.fromEntries(members.map((member, column) => [member, columns[column][row]])),
  );
}

module.exports = { finalResult, rowsOfColumns };
