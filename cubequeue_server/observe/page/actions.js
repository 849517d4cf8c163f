// Cancelling items and removing entries of the cache: asked twice, told what happened and who did it.

import { $, h, ask, clock, plural, Lost } from "./dom.js";

// Resolves to whether it was confirmed
export function confirmed(title, text, yes) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").replaceChildren(...text);
  $("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  $("confirm-no").focus();
  $("confirm-no").onclick = () => dialog.close("no");
  $("confirm-yes").onclick = () => dialog.close("yes");
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

const EFFECTS = [
  h("p", {}, "A cancel removes the item from the queue. Clients that wait for it get no result, and Cube asks again if somebody still looks at the query."),
  h("p", {}, "It does not stop a query that already runs in your database: its worker goes on to its end, and the result is dropped."),
  h("p", {}, h("strong", {}, "There is no undo."), " The log, and History under “cancelled”, name you for each item."),
];

// Cancel items by their ids. Resolves to a line that tells what happened, or to null if it was not confirmed.
export async function cancel(items) {
  const what = items.length === 1 ? `Cancel ${items[0].key}?` : `Cancel ${plural(items.length, "item")}?`;
  const list = items.length === 1 ? [] : [h("details", {}, h("summary", {}, "Which"), h("ul", {}, items.map(({ key }) => h("li", {}, key))))];
  const isSure = await confirmed(what, [...EFFECTS, ...list], items.length === 1 ? "Cancel the item" : `Cancel ${items.length} items`);
  return isSure ? told(items, (item) => post("/api/cancel", { item: item.item }, "cancel"), "cancelled", "History",
    "#/history?outcome=cancelled&sort=newest&since=all") : null;
}

export async function removeKey(entry) {
  const text = [h("p", {}, "Cube makes the value again when it needs it, which may run a query in your database. There is no undo; the log names you.")];
  const isSure = await confirmed(`Delete ${entry.key}?`, text, "Delete the entry");
  return isSure ? told([entry], () => post("/api/cache/remove", { key: entry.id }, "remove"), "removed") : null;
}

const post = (path, parameters, action) =>
  ask(path, parameters, { method: "POST", headers: { "x-cubequeue-action": action } });

async function told(items, act, word, linkText = "", link = "") {
  let done = 0, gone = 0, last = null, error = null;
  for (const item of items) {
    try {
      last = await act(item);
      if (last[word]) done++; else gone++;
    } catch (failure) {
      error = failure;
      break;
    }
  }
  const parts = [`${done} ${word}`];
  if (gone) parts.push(`${gone} had ended before`);
  if (error) parts.push(`then it stopped: ${error instanceof Lost ? "the server does not answer" : error.message}`);
  const by = last ? ` by ${last.by.user || "you"} from ${last.by.peer} at ${clock(last.at_ms)}` : "";
  return h("p", { class: error ? "audit alarm" : "audit", role: "status" }, `${parts.join(", ")}${by}. `,
    link ? h("a", { href: link }, linkText) : null);
}
