// The frame of the console: which view is shown, what is wrong, keys, and the rhythm of questions to the server.

import { $, h, ask, route, setClock, clock, duration, plural, Lost } from "./dom.js";
import { queues } from "./views/queues.js";
import { queue } from "./views/queue.js";
import { item } from "./views/item.js";
import { past } from "./views/history.js";
import { clients } from "./views/clients.js";
import { cache } from "./views/cache.js";

const INTERVAL_MS = 2000;
const MAX_TROUBLES = 3; // more are shown when asked for
const VIEWS = { queues, queue, item, history: past, clients, cache };
const NAV = { queue: "queues", item: "queues" };

let view = null; // the view that is shown: {title, refresh, end, onServer}
let server = null;
let isPaused = false;
let answeredMs = null; // when the server answered last, on this clock
let isLost = false;
let timer = 0;
let turn = 0;
let hasMore = false; // of what is wrong

function open({ isBack = false } = {}) {
  const wanted = route();
  view?.end?.();
  const make = VIEWS[wanted.view];
  const root = h("div", { class: `view ${wanted.view}` });
  view = make ? make(root, wanted, { server, open, refresh }) : nothing(root, wanted);
  $("view").replaceChildren(root);
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.getAttribute("href") === `#/${NAV[wanted.view] ?? wanted.view}`;
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (!isBack) scrollTo(0, 0);
  if (server) view.onServer?.(server);
  title();
  refresh();
}

function nothing(root, wanted) {
  root.append(h("h1", {}, "There is no such view"), h("p", {}, `#/${wanted.view} is none of the views above.`));
  return { title: "?", refresh: async () => {} };
}

function title() {
  const troubles = server?.attention.length ?? 0;
  const state = isLost ? "no answer · " : isPaused ? "paused · " : troubles ? `(${troubles}) ` : "";
  document.title = `${state}${view.title} · cubequeue`;
}

// Ask now. The next question comes after 2 s, and later where answers take long: looking must not be load.
async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  const startMs = performance.now();
  try {
    const found = await ask("/api/server");
    server = found;
    setClock(found.now_ms);
    if (mine !== turn) return;
    showServer();
    view.onServer?.(found);
    await view.refresh();
    if (mine !== turn) return;
    answeredMs = Date.now();
    isLost = false;
    complain(null);
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Lost) isLost = true;
    else {
      answeredMs = Date.now();
      isLost = false;
      complain(error);
    }
  }
  showState();
  const tookMs = performance.now() - startMs;
  if (!isPaused) timer = setTimeout(refresh, document.hidden ? 15000 : Math.max(INTERVAL_MS, 9 * tookMs));
}

function complain(error) {
  let place = document.querySelector(".view > .complaint");
  if (!error) return place?.remove();
  if (!place) document.querySelector(".view").prepend(place = h("p", { class: "complaint", role: "alert" }));
  const hint = error.status === 401 ? " Reload the page to give a name and a password." : "";
  place.textContent = `${error.message}${hint}`;
}

function showState() {
  document.body.classList.toggle("lost", isLost);
  const since = answeredMs === null ? "" : ` since ${clock(answeredMs)}`;
  $("state").textContent = isLost ? `no answer${since}` : isPaused ? `paused at ${clock(answeredMs ?? Date.now())}` : "live";
  if (isLost) {
    const text = `No answer${since}. What you see is from then; this page goes on asking.`;
    $("attention").replaceChildren(h("ul", {}, h("li", { class: "critical" }, h("a", {}, h("b", {}, "Critical"), ` ${text}`))));
  }
  $("state").className = isLost ? "lost" : isPaused ? "paused" : "live";
  title();
}

function showServer() {
  const troubles = server.attention;
  const lines = troubles.map(({ severity, text, link }) => h("li", { class: severity },
    h("a", { href: link, title: text }, h("b", {}, severity === "critical" ? "Critical" : "Warning"), ` ${text}`)));
  const fine = h("p", { class: "fine" }, "Nothing is wrong.");
  const isLong = lines.length > MAX_TROUBLES + 1;
  const more = isLong && h("button", { type: "button", onclick: () => { hasMore = !hasMore; showServer(); } },
    hasMore ? "Show fewer" : `Show ${lines.length - MAX_TROUBLES} more`);
  const shown = troubles.length ? h("div", {}, h("ul", {}, isLong && !hasMore ? lines.slice(0, MAX_TROUBLES) : lines), more) : fine;
  const place = $("attention");
  if (place.firstElementChild?.outerHTML !== shown.outerHTML) place.replaceChildren(shown);
  const guardedUntilS = server.gauges.drop_guard_until_s;
  const up = duration(server.now_ms - server.started_ms);
  $("about").textContent = `cubequeue ${server.version} · durability ${server.durability} · up ${up} · `
    + `since the start ${plural(server.executed, "statement")}, ${plural(server.errors, "error")}`
    + (guardedUntilS ? ` · tables of pre-aggregations are guarded until ${clock(guardedUntilS * 1000)}` : "");
}

function pause() {
  isPaused = !isPaused;
  $("pause").textContent = isPaused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", isPaused);
  if (isPaused) { clearTimeout(timer); showState(); } else refresh();
}

// Keys

let pressedG = 0;

function move(step) {
  const links = [...document.querySelectorAll("#view tbody a.open[href]")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step));
  links[next].focus();
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=checkbox]):not([type=radio]), select, textarea");
  if (event.key === "Escape" && isTyping) return event.target.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isAfterG = Date.now() - pressedG < 1500;
  pressedG = event.key === "g" ? Date.now() : 0;
  const jump = isAfterG && { q: "#/queues", h: "#/history", c: "#/clients", k: "#/cache" }[event.key];
  if (jump) location.hash = jump;
  else if (event.key === "/") document.querySelector("#view input.search")?.focus();
  else if (event.key === "?") $("keys").showModal();
  else if (event.key === "p") pause();
  else if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
  else return;
  event.preventDefault();
});

$("help").addEventListener("click", () => $("keys").showModal());
$("pause").addEventListener("click", pause);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("view").focus(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && !isPaused) refresh(); });
addEventListener("popstate", () => open({ isBack: true }));
setInterval(() => { if (isLost) showState(); }, 1000);
open();
