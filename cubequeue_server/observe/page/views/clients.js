// The connections: what each does, holds, and gets wrong.

import { h, ask, address, age, change, route, count, duration, size } from "../dom.js";
import { Table, Pager, searchField } from "../table.js";

export function clients(root, { parameters }, { open, refresh: again }) {
  const state = () => Object.fromEntries(route().parameters);
  const columns = [
    { id: "who", label: "Client", sort: "name", className: "name short", cell: (row) => row.name ?? row.process_id ?? row.peer, title: (row) => row.process_id ?? "",
      href: (row) => address("queues", "", { search: row.process_id ?? row.peer }) },
    { id: "peer", label: "Address", sort: "peer", cell: (row) => row.peer },
    { id: "user", label: "User", sort: "user", cell: (row) => row.user ?? "" },
    { id: "protocol", label: "Protocol", sort: "protocol", cell: (row) => row.protocol },
    { id: "since", label: "Since", sort: "since_ms", number: true, cell: (row) => duration(age(row.since_ms)), title: () => "connected for" },
    { id: "statements", label: "Statements", sort: "statements", number: true, cell: (row) => count(row.statements) },
    { id: "errors", label: "Errors", sort: "errors", number: true, cell: (row) => count(row.errors), alarm: (row) => row.errors > 0 },
    { id: "in_flight", label: "In flight", sort: "in_flight", number: true, cell: (row) => count(row.in_flight) },
    { id: "waiting", label: "Waiting", sort: "waiting", number: true, cell: (row) => count(row.waiting), title: () => "requests that wait for a result" },
    { id: "holds", label: "Holds", sort: "holds", number: true, cell: (row) => count(row.holds), title: () => "active items that it claimed" },
    { id: "in", label: "In", sort: "bytes_in", number: true, cell: (row) => size(row.bytes_in) },
    { id: "out", label: "Out", sort: "bytes_out", number: true, cell: (row) => size(row.bytes_out) },
    { id: "error", label: "Last error", className: "what", cell: (row) => row.last_error ?? "", title: (row) => row.last_error ?? "" },
  ];
  const table = new Table({
    caption: "Clients", columns, keyOf: (row) => row.number, classOf: (row) => (row.errors ? "warning" : ""),
    onSort: ({ sort }) => {
      const before = state();
      change({ sort, order: before.sort === sort && before.order === "desc" ? "asc" : "desc", offset: null });
      open({ isBack: true });
    },
  });
  const pager = new Pager("client", (offset) => { change({ offset: offset || null }); open(); });
  const search = searchField("Search clients", parameters.get("search") ?? "", (text) => {
    change({ search: text || null, offset: null }, { isTyped: true });
    again();
  }, "Search name, address, process, user, error");
  root.append(h("div", { class: "bar" }, h("h1", {}, "Clients"), search,
    h("span", { class: "quiet" }, "Those with errors come first. A click finds the items of a client.")), table.element, pager.element);

  async function refresh() {
    const { search: text, sort, order, offset } = state();
    const answer = await ask("/api/clients", { search: text, sort, order, offset });
    table.sorted(sort, order);
    table.show(answer.rows);
    table.note.textContent = text ? "No client has this." : "No client is connected.";
    pager.show(answer);
  }

  return { title: "Clients", refresh };
}
