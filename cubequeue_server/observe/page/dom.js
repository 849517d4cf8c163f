// Elements, numbers as text, and questions to the server. What clients wrote enters the page as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Numbers as text; a dash for what is not known

export const NONE = "–";

export function count(number) {
  return number === null || number === undefined ? NONE : Math.round(number).toLocaleString("en");
}

export function rate(number) {
  return number === null || number === undefined ? NONE : number < 10 ? number.toFixed(1) : count(number);
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  for (; bytes >= 1024 && step < units.length - 1; step++) bytes /= 1024;
  return `${step && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[step]}`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function clock(ms) {
  if (ms === null || ms === undefined) return NONE;
  const date = new Date(ms);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toISOString().slice(0, 10)} ${time}`;
}

export function share(used, limit) {
  return limit > 0 ? `${Math.floor((100 * used) / limit)} %` : NONE;
}

// The server's clock, which may differ from this one's
let aheadMs = 0;
export const setClock = (nowMs) => { aheadMs = nowMs - Date.now(); };
export const now = () => Date.now() + aheadMs;
export const age = (sinceMs) => (sinceMs === null || sinceMs === undefined ? null : Math.max(0, now() - sinceMs));

export function owner(who) {
  if (!who) return NONE;
  // Processes of Cube share a user, people at the page have no process
  return (who.process ? who.name ?? who.process : who.user ?? who.name ?? who.peer) ?? NONE;
}

// All that is known of an owner, for a title
export function ownerTitle(who) {
  if (!who) return "";
  const parts = [["name", who.name], ["user", who.user], ["process", who.process], ["address", who.peer]];
  return parts.filter(([, text]) => text).map(([name, text]) => `${name} ${text}`).join("\n");
}

export const ownerElement = (who) => h("span", { title: ownerTitle(who) }, owner(who));

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

// Questions to the server

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export class Lost extends Error {}

export async function ask(path, parameters = {}, options = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  let answer, text;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { cache: "no-store", ...options });
    text = await answer.text();
  } catch {
    throw new Lost("the server does not answer");
  }
  if (!answer.ok) {
    let said = text.trim();
    try { said = JSON.parse(text).error ?? said; } catch { /* plain text */ }
    throw new Refused(answer.status, said || `the server answered ${answer.status}`);
  }
  return JSON.parse(text);
}

// Addresses: `#/queue/ID?range=1h`

export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  return { view: view || "queues", id: rest.join("/"), parameters: new URLSearchParams(query) };
}

export function address(view, id = "", parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `#/${view}${id ? `/${id}` : ""}${query ? `?${query}` : ""}`;
}

// Change parameters of this address. What is typed replaces it, so that Back leaves the view.
export function change(changes, { isTyped = false } = {}) {
  const { view, id, parameters } = route();
  const target = address(view, id, { ...Object.fromEntries(parameters), ...changes });
  if (isTyped) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
}
