// The cache: prefixes with sizes and hit rates; the keys of one; the value of one key.

import { h, ask, address, change, route, now, clock, count, duration, share, size, plural, Refused } from "../dom.js";
import { Table, Pager, searchField } from "../table.js";
import { removeKey } from "../actions.js";

export function cache(root, given, context) {
  return given.parameters.has("key") ? entry(root, given, context) : location.hash.startsWith("#/cache/") ? keys(root, given, context) : prefixes(root, given, context);
}

const state = () => Object.fromEntries(route().parameters);
const typed = (again) => (text) => {
  change({ search: text || null, offset: null }, { isTyped: true });
  again();
};

// A prefix without a name has an empty id, hence the dot
const keysOf = (id) => (id === null ? null : address("cache", id || "."));
const idOf = (id) => (id === "." ? "" : id);

function prefixes(root, { parameters }, { open, refresh: again }) {
  const hitRate = ({ hits, misses }) => (hits === null || hits + misses === 0 ? "–" : share(hits, hits + misses));
  const columns = [
    { id: "name", label: "Prefix", sort: "name", className: "name", cell: (row) => row.name || "(no prefix)", href: (row) => keysOf(row.id) },
    { id: "entries", label: "Entries", sort: "entries", number: true, cell: (row) => count(row.entries) },
    { id: "bytes", label: "Size", sort: "bytes", number: true, cell: (row) => size(row.bytes) },
    { id: "rate", label: "Hit rate", sort: "hit_rate", number: true, cell: hitRate, title: () => "of CACHE GET since the start" },
    { id: "reads", label: "Reads", sort: "reads", number: true, cell: (row) => (row.hits === null ? "–" : count(row.hits + row.misses)), title: () => "since the start" },
  ];
  const table = new Table({ caption: "Cache by prefix", columns, keyOf: (row) => row.id ?? row.name,
    onSort: ({ sort }) => {
      const { sort: before = "bytes", order = "desc" } = state();
      const first = sort === "name" ? "asc" : "desc";
      change({ sort, order: before === sort ? (order === "desc" ? "asc" : "desc") : first, offset: null });
      open({ isBack: true });
    } });
  const pager = new Pager("prefix", (offset) => { change({ offset: offset || null }); open(); }, "prefixes");
  const search = searchField("Search prefixes", parameters.get("search") ?? "", typed(again), "Search prefixes");
  const sums = h("p", { class: "quiet sums" });
  root.append(h("div", { class: "bar" }, h("h1", {}, "Cache"), search, sums), table.element, pager.element);

  async function refresh() {
    const { search: text, sort = "bytes", order = "desc", offset } = state();
    const answer = await ask("/api/cache", { search: text, sort, order, offset });
    table.sorted(sort, order);
    table.show(answer.rows);
    table.note.textContent = text ? "No prefix has this in its name." : "The cache is empty.";
    pager.show(answer);
    const { entries, bytes, hits, misses } = answer.sums;
    sums.textContent = `${plural(entries, "entry", "entries")}, ${size(bytes)}; ${hitRate({ hits, misses })} of ${plural(hits + misses, "read")} since the start found one`;
  }

  return { title: "Cache", refresh };
}

const left = (expireMs) => (expireMs === null ? "never" : duration(Math.max(0, expireMs - now())));

function keys(root, { id, parameters }, { open, refresh: again }) {
  const columns = [
    { id: "key", label: "Key", className: "what", cell: (row) => row.key, title: (row) => row.key,
      href: (row) => (row.id === null ? null : address("cache", id, { key: row.id })) },
    { id: "bytes", label: "Size", number: true, cell: (row) => size(row.bytes) },
    { id: "ttl", label: "Expires in", number: true, cell: (row) => left(row.expire_ms), title: (row) => (row.expire_ms === null ? "" : clock(row.expire_ms)) },
  ];
  const table = new Table({ caption: "Keys", columns, keyOf: (row) => row.id ?? row.key });
  const pager = new Pager("key", (offset) => { change({ offset: offset || null }); open(); });
  const search = searchField("Search keys", parameters.get("search") ?? "", typed(again), "Search keys");
  const name = nameOf(idOf(id));
  root.append(h("p", { class: "where" }, h("a", { href: address("cache") }, "Cache")),
    h("div", { class: "bar" }, h("h1", { class: "key" }, name), search), table.element, pager.element);

  async function refresh() {
    const { search: text, offset } = state();
    const answer = await ask("/api/cache/keys", { prefix: idOf(id), search: text, offset });
    table.show(answer.rows);
    table.note.textContent = text ? "No key has this." : "No keys now.";
    pager.show(answer);
  }

  return { title: name, refresh };
}

function entry(root, { id, parameters }, { refresh: again }) {
  const key = parameters.get("key");
  const name = h("h1", { class: "key" }, "…");
  const facts = h("dl", { class: "facts" });
  const value = h("div");
  const audit = h("div");
  let found = null;
  const button = h("button", { type: "button", class: "danger", hidden: true, onclick: async () => {
    const line = await removeKey(found);
    if (line) audit.replaceChildren(line);
    again();
  } }, "Delete …");
  root.append(h("p", { class: "where" }, h("a", { href: address("cache") }, "Cache"), " · ", h("a", { href: keysOf(idOf(id)) }, nameOf(idOf(id)))),
    h("div", { class: "bar" }, name, h("span", { class: "grow" }), button), audit, facts, value);
  let mayRemove = false;
  let drawn = "";

  async function refresh() {
    try {
      found = await ask("/api/cache/entry", { key });
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      name.textContent = view.title = nameOf(key).split(":").at(-1);
      value.replaceChildren(h("p", { class: "quiet" }, "The cache has no such key: it expired, was evicted, or was deleted."));
      facts.replaceChildren();
      button.hidden = true;
      drawn = "";
      return;
    }
    name.textContent = view.title = found.key;
    button.hidden = !mayRemove;
    facts.replaceChildren(...[["Size", size(found.bytes)], ["Expires in", left(found.expire_ms)], ["Expires at", found.expire_ms === null ? "never" : clock(found.expire_ms)]]
      .map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));
    if (drawn === found.value.text) return;
    drawn = found.value.text;
    value.replaceChildren(h("pre", {}, found.value.text), ...(found.value.is_cut ? [h("p", { class: "quiet" }, `Cut: it has ${size(found.bytes)}.`)] : []));
  }

  const view = { title: "Key", refresh, onServer: (server) => { mayRemove = server.may_cancel; } };
  return view;
}

// The name that an id encodes
function nameOf(id) {
  try {
    const bytes = Uint8Array.from(atob(id.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0));
    return new TextDecoder().decode(bytes) || "(no prefix)";
  } catch {
    return "?";
  }
}
