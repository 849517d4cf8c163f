// With the default refresh key, SELECT FLOOR((UNIX_TIMESTAMP()) / 10).
cube('visits', {
  sql: `SELECT * FROM visits`,

  measures: {
    count: { type: 'count' },
  },

  dimensions: {
    id: { sql: 'id', type: 'number', primaryKey: true },
    page: { sql: 'page', type: 'string' },
  },
});
