// A refresh key that does not move during a test: each query is executed once.
cube('orders', {
  sql: `SELECT * FROM orders`,

  refreshKey: { every: '1 day' },

  measures: {
    count: { type: 'count' },
    total: { sql: 'amount', type: 'sum' },
  },

  dimensions: {
    id: { sql: 'id', type: 'number', primaryKey: true, public: true, shown: true },
    status: { sql: 'status', type: 'string' },
    createdAt: { sql: 'created_at', type: 'time' },
  },
});
