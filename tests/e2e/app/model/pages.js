// Answered from a rollup that is kept in the data source itself: built through the pre-aggregation queues.
cube('pages', {
  sql: `SELECT * FROM visits`,

  refreshKey: { every: '1 day' },

  measures: {
    count: { type: 'count' },
  },

  dimensions: {
    id: { sql: 'id', type: 'number', primaryKey: true },
    page: { sql: 'page', type: 'string' },
  },

  preAggregations: {
    byPage: {
      type: 'rollup',
      measures: [CUBE.count],
      dimensions: [CUBE.page],
      external: false,
      scheduledRefresh: false,
      refreshKey: { every: '1 day' },
    },
  },
});
