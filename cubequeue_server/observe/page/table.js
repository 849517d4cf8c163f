// Tables whose rows keep their elements, so that neither focus nor pointer loses what it is on.

import { h, count, plural } from "./dom.js";

export class Table {
  // columns: {id, label, cell(row) → text or element, href(row), number, sort, title(row), className}
  constructor({ caption, columns, keyOf, classOf = () => "", onSort = null, empty = "Nothing.", isSelectable = false }) {
    Object.assign(this, { columns, keyOf, classOf, empty });
    this.rows = new Map();
    this.shown = [];
    this.selected = new Set();
    this.onSelect = () => {};
    this.heads = new Map();
    const heads = columns.map((column) => this.head(column, onSort));
    this.selectAll = h("input", { type: "checkbox", "aria-label": "Select all on this page", onchange: () => {
      this.select(this.selectAll.checked ? this.shown.map(keyOf) : []);
    } });
    this.picker = h("th", { scope: "col", class: "pick", hidden: !isSelectable }, this.selectAll);
    this.body = h("tbody");
    this.isHeld = false; // a mouse is on the rows
    this.body.addEventListener("pointermove", (event) => { this.isHeld = event.pointerType === "mouse"; });
    this.body.addEventListener("pointerleave", () => {
      this.isHeld = false;
      if (this.latest) this.show(this.latest);
    });
    this.note = h("p", { class: "quiet", hidden: true }, empty);
    const table = h("table", {}, h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, this.picker, ...heads)), this.body);
    this.element = h("div", { class: "table" }, table, this.note);
    this.isSelectable = isSelectable;
  }

  head(column, onSort) {
    const attributes = { scope: "col", class: `${column.number ? "number" : ""} ${column.className ?? ""}` };
    const label = column.sort && onSort
      ? h("button", { type: "button", onclick: () => onSort(column) }, column.label)
      : h("span", {}, column.label);
    const made = h("th", attributes, label);
    this.heads.set(column.id, { made, label, column });
    return made;
  }

  setLabel(id, text) {
    this.heads.get(id).label.textContent = text;
  }

  sorted(sort, order) {
    for (const { made, column } of this.heads.values()) {
      if (column.sort && column.sort === sort) made.setAttribute("aria-sort", order === "desc" ? "descending" : "ascending");
      else made.removeAttribute("aria-sort");
    }
  }

  setSelectable(isSelectable) {
    this.isSelectable = isSelectable;
    this.picker.hidden = !isSelectable;
    for (const { pick } of this.rows.values()) pick.hidden = !isSelectable;
  }

  select(keys) {
    this.selected = new Set(keys);
    for (const [key, { box }] of this.rows) box.checked = this.selected.has(key);
    this.selectAll.checked = this.shown.length > 0 && this.selected.size === this.shown.length;
    this.onSelect(this.selected);
  }

  // Show rows. While the pointer is on them, rows keep their places: only their contents change.
  show(rows, { isNew = false } = {}) {
    this.latest = rows;
    if (!isNew && this.isHeld && this.shown.length) {
      const found = new Map(rows.map((row) => [this.keyOf(row), row]));
      for (const [key, each] of this.rows) {
        if (found.has(key)) this.fill(each, found.get(key));
        each.element.classList.toggle("gone", !found.has(key));
      }
      return;
    }
    const focused = document.activeElement;
    const kept = new Map();
    const elements = rows.map((row) => {
      const key = this.keyOf(row);
      const each = this.rows.get(key) ?? this.make(key);
      this.fill(each, row);
      each.element.classList.remove("gone");
      kept.set(key, each);
      return each.element;
    });
    this.rows = kept;
    this.shown = rows;
    const isSame = elements.length === this.body.children.length && elements.every((each, at) => each === this.body.children[at]);
    if (!isSame) this.body.replaceChildren(...elements);
    if (!isSame && focused && focused !== document.activeElement && this.body.contains(focused)) focused.focus();
    this.note.hidden = rows.length > 0;
    if (this.isSelectable) this.select([...this.selected].filter((key) => kept.has(key)));
  }

  make(key) {
    const box = h("input", { type: "checkbox", "aria-label": "Select", onchange: () => {
      if (box.checked) this.selected.add(key); else this.selected.delete(key);
      this.select(this.selected);
    } });
    const pick = h("td", { class: "pick", hidden: !this.isSelectable }, box);
    const cells = this.columns.map((column) => {
      const cell = h("td", { "data-name": column.label, class: `${column.number ? "number" : ""} ${column.className ?? ""}` });
      const inside = column.href ? cell.appendChild(h("a", { class: "open" })) : cell;
      return { cell, inside };
    });
    return { element: h("tr", {}, pick, ...cells.map(({ cell }) => cell)), cells, pick, box };
  }

  fill(each, row) {
    each.element.className = this.classOf(row);
    this.columns.forEach((column, at) => {
      const { cell, inside } = each.cells[at];
      const content = column.cell(row);
      if (typeof content === "string") {
        if (inside.textContent !== content) inside.textContent = content;
      } else inside.replaceChildren(...[content].flat());
      if (column.href) {
        const href = column.href(row);
        if (href === null) inside.removeAttribute("href"); else inside.setAttribute("href", href);
      }
      if (column.title) cell.title = column.title(row) ?? "";
      if (column.alarm) cell.classList.toggle("alarm", column.alarm(row));
    });
  }
}

// Previous and next page, and which rows of how many are shown
export class Pager {
  constructor(one, onGo, many = `${one}s`) {
    this.noun = (number) => plural(number, one, many);
    this.previous = h("button", { type: "button", onclick: () => onGo(Math.max(0, this.answer.offset - 50)) }, "Previous");
    this.next = h("button", { type: "button", onclick: () => onGo(this.answer.next) }, "Next");
    this.text = h("span", { class: "quiet", role: "status" });
    this.element = h("div", { class: "bar pager" }, this.text, this.previous, this.next);
  }

  show(answer) {
    this.answer = answer;
    const last = answer.offset + answer.rows.length;
    const isAll = answer.offset === 0 && answer.next === null;
    this.text.textContent = isAll || !answer.rows.length
      ? this.noun(answer.total)
      : `${count(answer.offset + 1)} to ${count(last)} of ${this.noun(answer.total)}`;
    this.previous.hidden = this.next.hidden = isAll;
    this.previous.disabled = answer.offset === 0;
    this.next.disabled = answer.next === null;
  }
}

// A field that searches while it is typed in
export function searchField(label, value, onSearch, placeholder = "") {
  let timer = 0;
  const input = h("input", { type: "search", autocomplete: "off", spellcheck: "false", value, placeholder, class: "search",
    "aria-label": label, oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => onSearch(input.value.trim()), 200);
    } });
  return input;
}
