// One item: why it waits or what it does, its life so far, and what is in it.

import { h, ask, address, age, clock, count, duration, owner, ownerElement, size, plural } from "../dom.js";
import { cancel } from "../actions.js";
import { itemTable } from "./items.js";

const MAX_NAMED = 3;

export function item(root, { id, parameters }, { refresh: again }) {
  const name = h("h1", { class: "key" }, "…");
  const where = h("p", { class: "where" });
  const why = h("section", { class: "why", "aria-label": "Where it stands" });
  const parts = h("div");
  const audit = h("div");
  const button = h("button", { type: "button", class: "danger", hidden: true, onclick: async () => {
    const line = await cancel([{ item: id, key: name.textContent }]);
    if (line) audit.replaceChildren(line);
    again();
  } }, "Cancel …");
  const slots = itemTable({ caption: "Items that hold the slots" });
  root.append(where, h("div", { class: "bar" }, name, h("span", { class: "grow" }), button), audit, why, parts);
  let mayCancel = false;
  let drawn = "";

  async function refresh() {
    const number = parameters.get("number");
    const [found, past] = await Promise.all([
      ask("/api/item", { item: id }).catch((error) => { if (error.status !== 404 || !number) throw error; return null; }),
      number ? ask("/api/history", { number }) : null,
    ]);
    const ended = past?.rows[0] ?? (found?.found ? null : found?.ended[0]) ?? null;
    const shown = past?.rows[0] ?? found?.found ?? ended;
    const head = found ?? shown;
    name.textContent = view.title = head.key;
    where.replaceChildren(h("a", { href: address("queue", head.queue_id) }, head.queue || "(no prefix)"), shown ? ` · id ${shown.number}` : "");
    button.hidden = !(mayCancel && found?.found && !past);
    why.replaceChildren(...(ended ? endOf(ended) : found.found ? standing(found) : [h("p", {}, "It has ended. Only its result is kept.")]));
    if (shown) why.append(timeline(shown, found));
    const isWaiting = found?.found?.state === "pending" && !past;
    slots.show(isWaiting ? found.slots : []);
    // What does not change is drawn once, so that what is selected or unfolded stays so.
    const version = JSON.stringify([shown?.number, shown?.payload, found?.found?.extra, found?.result?.number, found?.ended.length, isWaiting]);
    if (version === drawn) return;
    drawn = version;
    parts.replaceChildren(
      ...(isWaiting && found.slots.length ? [h("h2", {}, "Who holds the slots"), slots.element] : []),
      ...(shown ? contents(shown, found?.found) : []),
      ...(found?.result && !past ? [h("h2", {}, "Result"), block(found.result.value, `${size(found.result.value.bytes)}, ${found.result.is_taken ? "taken" : "not taken"}, kept until ${clock(found.result.expire_ms)}`)] : []),
      ...earlier(found, shown, id),
    );
  }

  const view = { title: "Item", refresh, onServer: (server) => { mayCancel = server.may_cancel; } };
  return view;
}

// Why it waits, or what it does

function standing(all) {
  const it = all.found;
  const clients = all.waiting ? `${plural(all.waiting, "request waits", "requests wait")} for its result; meanwhile Cube says “Continue wait”.`
    : "No request waits for its result at this moment.";
  if (it.state === "active") {
    const line = it.is_stalled
      ? `Silent: no heartbeat for ${duration(age(it.heartbeat_ms))}. Its worker is probably dead; Cube cancels it after ${duration(all.stalled_after_ms)}.`
      : `Runs for ${duration(age(it.claimed_ms))} on ${owner(it.claimed_by)}; last heartbeat ${duration(age(it.heartbeat_ms))} ago.`;
    return [h("p", { class: it.is_stalled ? "lead alarm" : "lead" }, line), h("p", {}, clients)];
  }
  return [h("p", { class: "lead" }, `Waits for ${duration(age(it.created_ms))}: ${reason(all)}; place ${count(it.place)}.`), h("p", {}, clients)];
}

function reason(all) {
  const { slots, active, concurrency } = all;
  const alone = all.found.is_exclusive ? `; only ${owner(all.found.added_by)}, which added it, may claim it` : "";
  const named = slots.slice(0, MAX_NAMED).map((slot) => `${short(slot.key)} (${duration(age(slot.claimed_ms))}, ${owner(slot.claimed_by)})`);
  const list = `${named.join(", ")}${active > named.length ? ` and ${count(active - named.length)} more` : ""}`;
  if (concurrency === null && !active) return `no client has asked for work of this queue yet${alone}`;
  if (concurrency === null) return `${plural(active, "item runs", "items run")}: ${list}${alone}`;
  const busy = `${count(active)} of ${count(concurrency)} slots busy`;
  if (active >= concurrency) return `${busy}: ${list}${alone}`;
  if (active) return `${busy}: ${list}; no client has asked for the free ones${alone}`;
  return `${busy}, but no client asks for work: are the workers alive?${alone}`;
}

const short = (key) => (key.length > 14 ? `${key.slice(0, 12)}…` : key);

const WORDS = {
  acknowledged: "Done", error: "Failed", cancelled: "Cancelled by hand", stalled: "Cancelled: its worker sent no heartbeat",
  orphaned: "Cancelled: nobody asked for it any more", expired: "Expired",
};

function endOf(it) {
  const took = it.run_ms === null ? `after a wait of ${duration(it.wait_ms)}` : `after ${duration(it.wait_ms)} of waiting and ${duration(it.run_ms)} of running`;
  const by = it.ended_by ? `, by ${owner(it.ended_by)}` : "";
  return [h("p", { class: it.outcome === "acknowledged" ? "lead" : "lead alarm" }, `${WORDS[it.outcome]} at ${clock(it.ended_ms)}${by}, ${took}.`),
    ...(it.error ? [h("pre", { class: "error" }, it.error)] : [])];
}

function timeline(it, all) {
  const steps = [["Added", it.created_ms, it.added_by, `priority ${it.priority}`]];
  if (it.claimed_ms !== null) steps.push(["Claimed", it.claimed_ms, it.claimed_by, `waited ${duration(it.claimed_ms - it.created_ms)}`]);
  if (it.heartbeat_ms && it.claimed_ms !== null) steps.push(["Last heartbeat", it.heartbeat_ms, it.claimed_by, `${duration(age(it.heartbeat_ms))} ago`, it.is_stalled]);
  if (it.ended_ms) steps.push([WORDS[it.outcome], it.ended_ms, it.ended_by, it.run_ms === null ? "" : `ran ${duration(it.run_ms)}`, it.outcome !== "acknowledged"]);
  else if (it.claimed_ms === null) steps.push(["Not claimed yet", null, null, `place ${count(it.place)} of ${count(all?.pending)}`]);
  return h("ol", { class: "timeline" }, steps.map(([what, ms, who, more, isAlarm]) => h("li", { class: isAlarm ? "alarm" : "" },
    h("b", {}, what), h("time", {}, ms ? clock(ms) : ""), who ? h("span", {}, "by ", ownerElement(who)) : null, h("span", { class: "quiet" }, more))));
}

// What is in it

function contents(it, found) {
  const { payload } = it;
  const raw = found?.raw;
  const rows = [["Request id", it.request_id], ["External id", it.external_id], ["Key", it.key],
    ["Exclusive", found?.is_exclusive ? "only the process that added it can claim it" : null],
    ["Payload", size(it.payload_bytes)], ["Result", it.result_bytes === null || it.result_bytes === undefined ? null : size(it.result_bytes)]];
  return [
    h("dl", { class: "pairs" }, rows.filter(([, text]) => text).flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])),
    h("h2", {}, payload.kind === "sql" ? "SQL" : "Payload"), block(payload),
    ...(payload.parameters ? [h("h3", {}, "Parameters"), h("pre", {}, payload.parameters)] : []),
    ...(raw && payload.kind === "sql" ? [h("details", {}, h("summary", {}, `Whole payload${raw.is_cut ? ", cut" : ""}`), h("pre", {}, raw.text))] : []),
    ...(found?.extra ? [h("h2", {}, "Extra"), block(found.extra)] : []),
  ];
}

function block(value, note = "") {
  return h("div", {}, note ? h("p", { class: "quiet" }, note) : null, h("pre", {}, value.text),
    value.is_cut ? h("p", { class: "quiet" }, `Cut: it has ${size(value.bytes)}.`) : null);
}

function earlier(all, shown, id) {
  const rows = (all?.ended ?? []).filter((each) => each.number !== shown?.number);
  if (!rows.length) return [];
  return [h("h2", {}, "Earlier items with this key"), h("ul", {}, rows.map((each) => h("li", {},
    h("a", { href: address("item", id, { number: each.number }) }, `${WORDS[each.outcome]} at ${clock(each.ended_ms)}`),
    ` after ${duration(each.run_ms ?? each.wait_ms)}`)))];
}
