// Items that ended: filtered, slowest first, with the distribution of their durations.

import { h, ask, address, change, route, now, clock, duration, owner, ownerTitle, plural, size } from "../dom.js";
import { Table, Pager, searchField } from "../table.js";
import { histogram } from "../charts.js";

const OUTCOMES = { acknowledged: "done", error: "failed", cancelled: "cancelled", stalled: "stalled", orphaned: "orphaned", expired: "expired" };
const SINCE = { "15m": [900e3, "last 15 min"], "1h": [3600e3, "last hour"], "24h": [86400e3, "last 24 h"], all: [null, "all that is remembered"] };
const LEAST = [["", "any"], ["100", "100 ms"], ["1000", "1 s"], ["10000", "10 s"], ["60000", "1 min"], ["600000", "10 min"]];

export function past(root, { parameters }, { open, refresh: again }) {
  const state = () => Object.fromEntries(route().parameters);
  const set = (changes) => { change({ ...changes, offset: null }); open({ isBack: true }); };
  const chosen = new Set((parameters.get("outcome") ?? "").split(",").filter(Boolean));
  const select = (label, name, pairs, standard) => {
    const made = h("select", { onchange: () => set({ [name]: made.value }) },
      pairs.map(([value, text]) => h("option", { value, selected: value === (parameters.get(name) ?? standard) }, text)));
    return h("label", {}, `${label} `, made);
  };
  const chips = Object.entries(OUTCOMES).map(([outcome, word]) => h("button", {
    type: "button", class: `chip ${outcome}`, "aria-pressed": String(chosen.has(outcome)),
    onclick: () => {
      if (!chosen.delete(outcome)) chosen.add(outcome);
      set({ outcome: [...chosen].join(",") || null });
    } }, word));
  const search = searchField("Search ended items", parameters.get("text") ?? "", (text) => {
    change({ text: text || null, offset: null }, { isTyped: true });
    again();
  }, "Search key, SQL, request id, owner, error");
  const least = parameters.get("min_ms") ?? "";
  const most = parameters.get("max_ms");
  const isOdd = most !== null || !LEAST.some(([value]) => value === least);
  const between = isOdd ? h("button", { type: "button", class: "chip", onclick: () => set({ min_ms: null, max_ms: null }) },
    most === null ? `≥ ${duration(+least)} ✕` : `${duration(+least)} to ${duration(+most + 1)} ✕`) : null;
  const queueChip = parameters.has("queue") ? h("button", { type: "button", class: "chip", onclick: () => set({ queue: null }) }, "one queue ✕") : null;
  const distribution = h("div");
  const kept = h("p", { class: "quiet" });
  const table = historyTable(({ id }) => set(id === "ended" ? { sort: "newest", by: null } : { sort: "slowest", by: id }));
  const pager = new Pager("ended item", (offset) => { change({ offset: offset || null }); open(); });
  root.append(
    h("div", { class: "bar" }, h("h1", {}, "History"), search, queueChip),
    h("div", { class: "bar filters" }, h("span", { class: "chips", role: "group", "aria-label": "Outcome" }, chips),
      select("Ended in the", "since", Object.entries(SINCE).map(([value, [, text]]) => [value, text]), "1h"),
      select("Order", "sort", [["slowest", "slowest first"], ["newest", "newest first"]], "slowest"),
      select("Duration of", "by", [["total", "wait and run"], ["run", "run"], ["wait", "wait"]], "total"),
      isOdd ? between : select("at least", "min_ms", LEAST, "")),
    distribution, table.element, pager.element, kept,
  );
  let drawn = "";

  async function refresh() {
    const { since = "1h", text, outcome, queue, by = "total", min_ms, max_ms, sort = "slowest", offset } = state();
    const [backMs] = SINCE[since] ?? SINCE["1h"];
    const since_ms = backMs === null ? null : Math.round(now() - backMs);
    const answer = await ask("/api/history", { since_ms, text, outcome, queue, by, min_ms, max_ms, sort, offset });
    if (queueChip && answer.rows.length) queueChip.textContent = `${answer.rows[0].queue || "(no prefix)"} ✕`;
    table.sorted(sort === "newest" ? "ended" : by, "desc");
    table.show(answer.rows);
    table.note.textContent = answer.kept ? "No ended item fits the filters." : "No item has ended yet.";
    pager.show(answer);
    kept.textContent = answer.kept ? `${plural(answer.kept, "ended item is", "ended items are")} remembered, since ${clock(answer.since_ms)}.` : "";
    if (JSON.stringify(answer.distribution) === drawn) return;
    drawn = JSON.stringify(answer.distribution);
    const bars = histogram(answer.distribution, (from, to) => set({ min_ms: from, max_ms: to, by: by === "total" ? "run" : by }));
    distribution.replaceChildren(...(answer.total ? [bars] : []));
  }

  return { title: "History", refresh };
}

function historyTable(onSort) {
  const columns = [
    { id: "ended", label: "Ended", sort: "ended", cell: (row) => clock(row.ended_ms), className: "time" },
    { id: "outcome", label: "Outcome", cell: (row) => h("span", { class: `badge ${row.outcome}` }, OUTCOMES[row.outcome]) },
    { id: "queue", label: "Queue", className: "name short", title: (row) => row.queue, cell: (row) => row.queue || "(no prefix)" },
    { id: "what", label: "Item", className: "what", cell: (row) => row.error ?? (row.preview || row.key),
      href: (row) => (row.item === null ? null : address("item", row.item, { number: row.number })), title: (row) => `${row.key}\n\n${row.preview}` },
    { id: "wait", label: "Wait", sort: "wait", number: true, cell: (row) => duration(row.wait_ms) },
    { id: "run", label: "Run", sort: "run", number: true, cell: (row) => duration(row.run_ms) },
    { id: "total", label: "Total", sort: "total", number: true, cell: (row) => duration(row.wait_ms + (row.run_ms ?? 0)) },
    { id: "worker", label: "Ran on", className: "who", cell: (row) => owner(row.claimed_by), title: (row) => ownerTitle(row.claimed_by) },
    { id: "by", label: "Ended by", className: "who", cell: (row) => (owner(row.ended_by) === owner(row.claimed_by) ? "" : owner(row.ended_by)), title: (row) => ownerTitle(row.ended_by) },
    { id: "request", label: "Request", className: "who", cell: (row) => row.request_id ?? "", title: (row) => row.request_id ?? "" },
    { id: "result", label: "Result", number: true, cell: (row) => size(row.result_bytes) },
  ];
  return new Table({ caption: "Ended items", columns, keyOf: (row) => row.number, onSort });
}
