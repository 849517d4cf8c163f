// All queues, with the limits of the server above them. A search also finds items, by key, SQL, request id or owner.

import { h, ask, address, change, route, count, rate, size, duration, share, plural } from "../dom.js";
import { Table, Pager, searchField } from "../table.js";
import { spark } from "../charts.js";
import { itemTable } from "./items.js";

const LIMITS = {
  items: "Items", queue_bytes: "Bytes in queues", waiters: "Waiting clients", cache_bytes: "Cache",
  cache_keys: "Cache entries", answer_bytes: "Kept answers", connections: "Connections", descriptors: "Descriptors",
  disk_bytes: "Disk",
};
const FOUND_ITEMS = 10;

export function queues(root, { parameters }, { open }) {
  const state = () => Object.fromEntries(route().parameters);
  let top = 1;

  const columns = [
    { id: "name", label: "Queue", sort: "name", cell: (row) => row.name || "(no prefix)", className: "name",
      href: (row) => (row.id === null ? null : address("queue", row.id)) },
    { id: "pending", label: "Pending", sort: "pending", number: true, cell: (row) => count(row.pending) },
    { id: "active", label: "Active", sort: "active", number: true,
      cell: (row) => `${count(row.active)}${row.concurrency ? ` of ${count(row.concurrency)}` : ""}`,
      title: (row) => (row.concurrency ? `concurrency ${row.concurrency}, as asked for last` : "") },
    { id: "waiting", label: "Waiting", sort: "waiting", number: true, cell: (row) => count(row.waiting) },
    { id: "oldest", label: "Oldest", sort: "oldest", number: true, cell: (row) => duration(row.oldest_ms),
      title: () => "age of the oldest pending item" },
    { id: "heartbeat", label: "Heartbeat", sort: "heartbeat", number: true, cell: (row) => duration(row.heartbeat_ms),
      title: () => "age of the oldest heartbeat", alarm: (row) => row.stalled > 0 },
    { id: "wait", label: "Wait p95", sort: "wait", number: true, cell: (row) => duration(row.wait_p95_ms),
      title: (row) => `of about the last hour; p50 ${duration(row.wait_p50_ms)}` },
    { id: "run", label: "Run p95", sort: "run", number: true, cell: (row) => duration(row.run_p95_ms),
      title: (row) => `of about the last hour; p50 ${duration(row.run_p50_ms)}` },
    { id: "throughput", label: "Ended/min", sort: "throughput", number: true, cell: (row) => rate(row.per_minute),
      title: () => "mean of the last five minutes" },
    { id: "failed", label: "Failed", sort: "failed", number: true, cell: (row) => count(row.totals?.failed ?? null),
      title: (row) => (row.totals ? `since the start, of ${count(row.totals.ended)} ended` : "") },
    { id: "chart", label: "Items, 30 min", className: "chart",
      cell: (row) => (row.chart ? spark(row.chart.depth, top, `${row.name}: at most ${Math.max(...row.chart.depth)} items in 30 minutes`) : "") },
  ];
  const table = new Table({
    caption: "Queues", columns, keyOf: (row) => row.id ?? row.name,
    classOf: (row) => (row.stalled ? "critical" : row.pending + row.active ? "" : "idle"),
    onSort: ({ sort }) => {
      const { sort: before = "name", order = "asc" } = state();
      const first = sort === "name" ? "asc" : "desc";
      change({ sort, order: sort === before ? (order === "asc" ? "desc" : "asc") : first, offset: null });
      open({ isBack: true });
    },
    empty: "No queue has this in its name.",
  });
  const pager = new Pager("queue", (offset) => { change({ offset: offset || null }); open(); });
  const search = searchField("Search queues and items", parameters.get("search") ?? "", (text) => {
    change({ search: text || null, offset: null }, { isTyped: true });
    refresh({ isNew: true });
  }, "Search queues, keys, SQL, request ids, owners");
  const tiles = h("dl", { class: "tiles", "aria-label": "Limits" });
  const sums = h("p", { class: "quiet sums" });
  const found = itemTable({ hasQueue: true });
  const foundNote = h("p", { class: "quiet" });
  const items = h("section", { hidden: true }, h("h2", {}, "Items found"), foundNote, found.element);
  root.append(tiles, h("div", { class: "bar" }, h("h1", {}, "Queues"), search, sums), table.element, pager.element, items);

  async function refresh({ isNew = false } = {}) {
    const { search: text = "", sort = "name", order = "asc", offset = "" } = state();
    const answer = await ask("/api/queues", { search: text, sort, order, offset });
    if (answer.offset >= answer.total && answer.offset > 0) {
      change({ offset: null }, { isTyped: true });
      return refresh({ isNew: true });
    }
    top = Math.max(1, ...answer.rows.flatMap((row) => row.chart?.depth ?? []));
    table.setLabel("chart", `Items, 30 min (0–${count(top)})`);
    table.sorted(sort, order);
    table.show(answer.rows, { isNew });
    table.note.textContent = text ? "No queue has this in its name." : "No queue holds an item yet. A queue appears with its first QUEUE ADD.";
    pager.show(answer);
    const { sums: all } = answer;
    sums.textContent = `${plural(all.pending, "pending item")}, ${count(all.active)} active, `
      + `${plural(all.waiting, "client waits", "clients wait")}`;
    await findItems(text);
  }

  async function findItems(text) {
    items.hidden = text.length < 3;
    if (items.hidden) return;
    const [here, past] = await Promise.all([
      ask("/api/items", { search: text, limit: FOUND_ITEMS }),
      ask("/api/history", { text, sort: "newest", limit: 1 }),
    ]);
    found.show(here.rows);
    foundNote.replaceChildren(here.total > here.rows.length ? `The first ${here.rows.length} of ${count(here.total)} items. ` : "",
      h("a", { href: address("history", "", { text, sort: "newest", since: "all" }) }, `${plural(past.total, "ended item")} in History`), ".");
  }

  function onServer(server) {
    const shown = server.limits.map((limit) => {
      const show = limit.unit === "bytes" ? size : count;
      const used = limit.limit > 0 ? limit.used / limit.limit : 0;
      const isCache = limit.name.startsWith("cache_");
      const level = isCache ? "" : used >= 0.95 ? "critical" : used >= 0.8 ? "warning" : "";
      const meter = h("meter", { min: 0, max: 1, value: Math.min(1, used), "aria-label": `${LIMITS[limit.name]} used` });
      return h("div", { class: level, title: `raised by ${limit.setting}${isCache ? "; a full cache evicts" : ""}` },
        h("dt", {}, LIMITS[limit.name] ?? limit.name), h("dd", {}, show(limit.used)),
        h("dd", { class: "quiet" }, `${share(limit.used, limit.limit)} of ${show(limit.limit)}`), meter);
    });
    tiles.replaceChildren(...shown);
  }

  return { title: "Queues", refresh, onServer };
}
