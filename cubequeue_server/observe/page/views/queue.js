// One queue: its charts, and its items in the order of service.

import { h, ask, address, change, route, count, rate, duration, size, clock, plural } from "../dom.js";
import { Table, Pager, searchField } from "../table.js";
import { Chart } from "../charts.js";
import { cancel } from "../actions.js";
import { itemTable } from "./items.js";

const RANGES = [["15m", "15 min"], ["1h", "1 h"], ["24h", "24 h"]];
const SERIES_MS = 10000;

export function queue(root, { id, parameters }, { open, refresh: again }) {
  const state = () => Object.fromEntries(route().parameters);
  const name = h("h1", {}, "…");
  const facts = h("dl", { class: "facts" });
  const charts = [
    new Chart("Items", "count", [
      { name: "pending", column: "pending", color: "--plot-1", fill: true }, { name: "active", column: "active", color: "--plot-2" }]),
    new Chart("Items a minute", "count", [
      { name: "added", column: "added", color: "--plot-1" }, { name: "ended", column: "ended", color: "--plot-2" },
      { name: "failed", column: "failed", color: "--plot-3" }]),
    new Chart("Wait and run, p95", "ms", [
      { name: "wait", column: "wait_p95_ms", color: "--plot-1" }, { name: "run", column: "run_p95_ms", color: "--plot-2" }]),
  ];
  const ranges = RANGES.map(([value, label]) => h("label", {}, h("input", { type: "radio", name: "range", value,
    checked: value === (parameters.get("range") ?? "1h"), onchange: () => { change({ range: value }, { isTyped: true }); chartsAtMs = -Infinity; again(); } }), label));
  let chartsAtMs = -Infinity;

  const search = searchField("Search items of this queue", parameters.get("search") ?? "", (text) => {
    change({ search: text || null, offset: null }, { isTyped: true });
    again();
  }, "Search key, SQL, request id, owner");
  const shows = h("select", { "aria-label": "Which items", onchange: () => { change({ show: shows.value, offset: null }); open({ isBack: true }); } },
    [["all", "all items"], ["pending", "pending"], ["active", "active"], ["results", "results"]].map(([value, label]) =>
      h("option", { value, selected: value === (parameters.get("show") ?? "all") }, label)));
  const isResults = parameters.get("show") === "results";
  const table = isResults ? resultTable() : itemTable({ caption: "Items in the order of service" });
  const pager = new Pager(isResults ? "result" : "item", (offset) => { change({ offset: offset || null }); open(); });
  const cancels = h("button", { type: "button", class: "danger", hidden: true, onclick: async () => {
    const chosen = table.shown.filter((row) => table.selected.has(row.number) && row.item !== null);
    const line = await cancel(chosen);
    if (!line) return;
    table.select([]);
    audit.replaceChildren(line);
    again();
  } });
  table.onSelect = (selected) => {
    cancels.hidden = !selected.size;
    cancels.textContent = `Cancel ${plural(selected.size, "item")} …`;
  };
  const audit = h("div");
  root.append(
    h("div", { class: "bar" }, name, h("span", { class: "grow" }),
      h("a", { href: address("history", "", { queue: id, since: "1h" }) }, "Its history")),
    facts,
    h("fieldset", { class: "ranges" }, h("legend", { class: "unseen" }, "Range of the charts"), ranges),
    h("div", { class: "charts" }, charts.map((chart) => chart.element)),
    h("div", { class: "bar" }, h("h2", {}, isResults ? "Results" : "Items"), search, shows, cancels),
    audit, table.element, pager.element,
  );
  const view = { title: "Queue", refresh, end: () => charts.forEach((chart) => chart.end()), onServer };

  function onServer(server) {
    if (!isResults) table.setSelectable(server.may_cancel);
  }

  async function refresh() {
    const found = await ask("/api/queue", { queue: id });
    view.title = name.textContent = found.name || "(no prefix)";
    facts.replaceChildren(...factsOf(found).flatMap(([term, text, isAlarm]) => h("div", { class: isAlarm ? "critical" : "" }, h("dt", {}, term), h("dd", {}, text))));
    const { range = "1h", search: text = "", show = "all", offset = "" } = state();
    if (performance.now() - chartsAtMs > SERIES_MS) {
      const series = await ask("/api/series", { queue: id, range });
      if (series.step_ms > 60000) charts[1].heading.textContent = "Items in 5 minutes";
      else charts[1].heading.textContent = "Items a minute";
      charts.forEach((chart) => chart.show(series));
      chartsAtMs = performance.now();
    }
    const answer = isResults ? await ask("/api/results", { queue: id, offset })
      : await ask("/api/items", { queue: id, search: text, state: show, offset });
    table.show(answer.rows);
    table.note.textContent = isResults ? "No result is kept. Results go when a client takes them, or after a minute."
      : text ? "No item has this." : "No items now. History has those that ended.";
    pager.show(answer);
  }

  return view;
}

function factsOf(found) {
  return [
    ["Pending", count(found.pending)],
    ["Active", `${count(found.active)}${found.concurrency ? ` of ${count(found.concurrency)}` : ""}${found.stalled ? `, ${count(found.stalled)} silent` : ""}`, found.stalled > 0],
    ["Waiting clients", count(found.waiting)],
    ["Oldest pending", duration(found.oldest_ms)],
    ["Wait p50 · p95", `${duration(found.wait_p50_ms)} · ${duration(found.wait_p95_ms)}`],
    ["Run p50 · p95", `${duration(found.run_p50_ms)} · ${duration(found.run_p95_ms)}`],
    ["Ended a minute", rate(found.per_minute)],
    ["Ended since start", found.totals ? `${count(found.totals.ended)}, ${count(found.totals.failed)} failed` : "–"],
  ];
}

function resultTable() {
  const columns = [
    { id: "key", label: "Item", className: "what", cell: (row) => row.key, href: (row) => (row.item === null ? null : address("item", row.item)) },
    { id: "value", label: "Result", className: "what", cell: (row) => row.value?.text.slice(0, 200) ?? "" },
    { id: "size", label: "Size", number: true, cell: (row) => size(row.value?.bytes) },
    { id: "taken", label: "Taken", cell: (row) => (row.is_taken ? "yes" : "no") },
    { id: "expire", label: "Kept until", number: true, cell: (row) => clock(row.expire_ms) },
  ];
  return new Table({ caption: "Results", columns, keyOf: (row) => row.number });
}
