// The live page. Names and payloads come from clients: they are shown as text, never as markup.

const INTERVAL_MS = 2000;
const CACHE_INTERVAL_MS = 10000;
const POINTS = 60;
const PAGE_ROWS = 25;
const REST = "other"; // all other queues; the server labels a queue of this name `other:`
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Numbers as text

function count(number) {
  return number === null ? "–" : number.toLocaleString("en");
}

function rate(number) {
  return number === null ? "–" : number < 10 ? number.toFixed(1) : count(Math.round(number));
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  for (; bytes >= 1024 && step < units.length - 1; step++) bytes /= 1024;
  return `${step && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[step]}`;
}

function age(ms) {
  if (ms === null) return "–";
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

// Plots: the last two minutes of one number

class Plot {
  constructor(title, show) {
    this.title = title;
    this.show = show;
    this.values = [];
    this.number = element("span", { class: "number" });
    this.line = document.createElementNS(SVG, "polyline");
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("class", "plot");
    this.svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 20`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.append(this.line);
    this.cell = element("td", { "data-name": title, "class": "plot" }, this.number, this.svg);
  }

  add(value) {
    this.values.push(value ?? 0);
    if (this.values.length > POINTS) this.values.shift();
    const top = Math.max(...this.values, 1e-9);
    const start = POINTS - this.values.length;
    const points = this.values.map((each, index) => `${start + index},${(19 - (18 * each) / top).toFixed(2)}`);
    this.line.setAttribute("points", points.join(" "));
    this.number.textContent = this.show(value);
    const highest = this.show(Math.max(...this.values));
    this.svg.setAttribute("aria-label", `${this.title}: now ${this.show(value)}, at most ${highest} in two minutes`);
  }
}

class QueueRow {
  constructor(queue) {
    this.name = queue.name;
    this.id = queue.id;
    this.claimed = null;
    this.at = 0;
    this.isRest = this.name === REST;
    this.label = element("td", { "data-name": "Queue", "class": this.isRest ? "others" : "" });
    this.pending = new Plot("Pending", count);
    this.active = new Plot("Active", count);
    this.waiting = new Plot("Waiting", count);
    this.throughput = new Plot("Claims/s", rate);
    this.oldest = new Plot("Oldest", age);
    const plots = [this.pending, this.active, this.waiting, this.throughput, this.oldest];
    this.row = element("tr", {}, this.label, ...plots.map((plot) => plot.cell));
  }

  update(queue, nowMs) {
    if (this.id !== queue.id || !this.label.firstChild) {
      this.id = queue.id;
      this.label.replaceChildren(this.nameElement());
    }
    this.pending.add(queue.pending);
    this.active.add(queue.active);
    this.waiting.add(queue.waiting);
    this.oldest.add(queue.oldest_ms);
    const seconds = (nowMs - this.at) / 1000;
    const isKnown = this.claimed !== null && queue.claimed !== null && seconds > 0;
    this.throughput.add(isKnown ? Math.max(0, queue.claimed - this.claimed) / seconds : null);
    this.claimed = queue.claimed;
    this.at = nowMs;
  }

  nameElement() {
    const shown = this.isRest ? "all other queues" : this.name || "(no prefix)";
    if (this.id === null) return element("span", {}, shown);
    const button = element("button", { type: "button", class: "name" }, shown);
    button.addEventListener("click", () => openQueue(this.id, shown));
    return button;
  }
}

// What the server says

let isPaused = false;
let mayCancel = false;
let clockSkewMs = 0; // how far the server's clock is ahead of this one
const queueRows = new Map();

async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error || `the server answered ${answer.status}`);
  return content;
}

function showTotals(overview) {
  const gauges = overview.gauges;
  const totals = {
    "Items": count(gauges.queue_items),
    "Queues": count(gauges.queues),
    "Bytes in queues": size(gauges.queue_bytes + gauges.queue_result_bytes),
    "Waiting clients": count(gauges.waiters),
    "Connections": count(overview.connections),
    "Statements": count(overview.executed),
    "Kept answers": size(gauges.answer_bytes),
    "Cache": size(gauges.cache_bytes),
    "Journal lag": count(overview.journal_lag),
    ...(overview.gauges.drop_guard_until_s
      ? { "Tables are guarded until": new Date(overview.gauges.drop_guard_until_s * 1000).toLocaleString() }
      : {}),
  };
  const shown = Object.entries(totals).map(([name, text]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  $("totals").replaceChildren(...shown);
}

function showQueues(overview) {
  const wanted = $("filter").value.toLowerCase();
  const seen = new Set();
  const rows = [];
  for (const queue of overview.queues) {
    seen.add(queue.name);
    let row = queueRows.get(queue.name);
    if (!row) queueRows.set(queue.name, (row = new QueueRow(queue)));
    row.update(queue, overview.now_ms);
    const isIdle = !queue.added && !queue.pending && !queue.active && !queue.waiting;
    if (!isIdle && queue.name.toLowerCase().includes(wanted)) rows.push(row.row);
  }
  for (const name of queueRows.keys()) if (!seen.has(name)) queueRows.delete(name);
  arrange(document.querySelector("#queue-table tbody"), rows);
  $("no-queues").hidden = rows.length > 0;
}

// Moves only rows that are out of place: a row that is moved loses the focus.
function arrange(body, rows) {
  const wanted = new Set(rows);
  for (const row of [...body.children]) if (!wanted.has(row)) row.remove();
  rows.forEach((row, index) => {
    if (body.children[index] !== row) {
      const focused = row.contains(document.activeElement) ? document.activeElement : null;
      body.insertBefore(row, body.children[index] ?? null);
      focused?.focus();
    }
  });
}

function showCache(content) {
  const rows = content.rows.map((row) => {
    const reads = row.hits === null ? null : row.hits + row.misses;
    const hitRate = reads ? `${((100 * row.hits) / reads).toFixed(1)} %` : "–";
    const cells = [["Prefix", row.name === REST ? "all other prefixes" : row.name || "(no prefix)"], ["Entries", count(row.entries)], ["Size", size(row.bytes)],
      ["Hit rate", hitRate], ["Reads", count(reads)]];
    return element("tr", {}, ...cells.map(([name, text]) => element("td", { "data-name": name }, text)));
  });
  document.querySelector("#cache-table tbody").replaceChildren(...rows);
  $("no-cache").hidden = rows.length > 0;
}

function showState(text, isLost) {
  $("state").textContent = text;
  $("state").classList.toggle("lost", isLost);
}

async function refresh() {
  if (!isPaused && !document.hidden) {
    try {
      const overview = await ask("api/overview");
      mayCancel = overview.may_cancel;
      clockSkewMs = overview.now_ms - Date.now();
      $("version").textContent = overview.version;
      showTotals(overview);
      showQueues(overview);
      showState("live", false);
    } catch (error) {
      showState(`no answer: ${error.message}`, true);
    }
  }
  setTimeout(refresh, INTERVAL_MS);
}

async function refreshCache() {
  if (!isPaused && !document.hidden) {
    await ask("api/cache").then(showCache, () => {});
  }
  setTimeout(refreshCache, CACHE_INTERVAL_MS);
}

// One queue

const opened = { id: null, name: "", offset: 0, next: null };

function openQueue(id, name) {
  Object.assign(opened, { id, name, offset: 0 });
  $("queue-name").textContent = name;
  $("queue").hidden = false;
  $("queue-name").focus();
  loadRows();
}

async function loadRows() {
  const { id, offset } = opened;
  const view = $("view").value;
  const parameters = new URLSearchParams({ queue: id, offset, limit: PAGE_ROWS });
  if (view === "pending" || view === "active") parameters.set("state", view);
  $("queue").setAttribute("aria-busy", "true");
  try {
    const content = await ask(`api/${view === "results" ? "results" : "items"}?${parameters}`);
    if (opened.id !== id) return;
    opened.next = content.next;
    const show = view === "results" ? resultElement : itemElement;
    $("rows").replaceChildren(...content.rows.map(show));
    const last = offset + content.rows.length;
    $("range").textContent = content.rows.length ? `${offset + 1} to ${last}${content.next ? ", more follow" : ""}` : "none";
    say("");
  } catch (error) {
    say(error.message);
  } finally {
    $("queue").removeAttribute("aria-busy");
    $("previous").disabled = offset === 0;
    $("next").disabled = opened.next === null;
  }
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function facts(pairs) {
  const known = pairs.filter(([, text]) => text !== null && text !== "");
  return element("dl", {}, ...known.map(([name, text]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(text)))));
}

function text(title, value) {
  if (!value) return [];
  const kind = { sql: "SQL", json: "JSON", text: "text" }[value.kind];
  const cut = value.is_cut ? ", cut" : "";
  const summary = element("summary", {}, `${title}: ${size(value.bytes)}, ${kind}${cut}`);
  return [element("details", {}, summary, element("pre", { tabindex: "0" }, value.text))];
}

function fromNow(ms) {
  return age(Math.abs(ms - Date.now() - clockSkewMs));
}

function ago(ms) {
  return ms === null ? null : `${fromNow(ms)} ago`;
}

function itemElement(item) {
  const shown = element("li", {}, facts([
    ["Key", item.key], ["State", item.state], ["Priority", item.priority], ["Added", ago(item.created_ms)],
    ["Heartbeat", ago(item.heartbeat_ms)], ["Owner", item.owner], ["Exclusive", item.is_exclusive ? "yes" : null],
    ["Claimed by", item.claimed_by], ["Claimed from", item.claimed_peer], ["External id", item.external_id],
  ]), ...text("Payload", item.payload), ...text("Extra", item.extra));
  if (mayCancel && item.item !== null) {
    const button = element("button", { type: "button", class: "danger" }, "Cancel");
    button.setAttribute("aria-label", `Cancel ${item.key}`);
    button.addEventListener("click", () => askToCancel(item));
    shown.append(button);
  }
  return shown;
}

function resultElement(result) {
  return element("li", {}, facts([
    ["Id", result.id], ["Path", result.key], ["Expires in", fromNow(result.expire_ms)],
    ["Read", result.is_taken ? "yes" : "no"], ["External id", result.external_id],
  ]), ...text("Value", result.value));
}

function askToCancel(item) {
  $("confirm-text").textContent = `Cancel ${item.key}? The item is removed; clients that wait for its result get none.`;
  $("confirm-yes").onclick = () => {
    $("confirm").close();
    cancel(item);
  };
  $("confirm").showModal();
  $("confirm-no").focus();
}

async function cancel(item) {
  try {
    const options = { method: "POST", headers: { "x-cubequeue-action": "cancel" } };
    await ask(`api/cancel?${new URLSearchParams({ item: item.item })}`, options);
    await loadRows();
  } catch (error) {
    say(error.message);
  }
}

function turn(offset) {
  opened.offset = Math.max(0, offset);
  loadRows();
}

$("view").addEventListener("change", () => turn(0));
$("previous").addEventListener("click", () => turn(opened.offset - PAGE_ROWS));
$("next").addEventListener("click", () => turn(opened.next ?? opened.offset));
$("reload").addEventListener("click", loadRows);
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("close").addEventListener("click", () => {
  opened.id = null;
  $("queue").hidden = true;
  $("queues").focus();
});
$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  if (isPaused) showState("paused", false);
});
refresh();
refreshCache();
