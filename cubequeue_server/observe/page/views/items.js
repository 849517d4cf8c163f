// The table of items, which three views have.

import { address, age, count, duration, owner, ownerTitle, size } from "../dom.js";
import { Table } from "../table.js";

export const item = (row) => (row.item === null ? null : address("item", row.item));

export function itemTable({ hasQueue = false, isSelectable = false, caption = "Items" } = {}) {
  const columns = [
    { id: "place", label: hasQueue ? "State" : "Place", number: true, cell: (row) => (row.state === "active" ? (row.is_stalled ? "silent" : "runs") : row.place === null ? "waits" : count(row.place)),
      title: (row) => (row.state === "active" ? "it holds a slot" : "place in line: by priority, then by age"),
      alarm: (row) => row.is_stalled },
    ...(hasQueue ? [{ id: "queue", label: "Queue", className: "name short", title: (row) => row.queue, cell: (row) => row.queue || "(no prefix)" }] : []),
    { id: "key", label: "Item", className: "what", href: item, cell: (row) => row.preview || row.key,
      title: (row) => `${row.key}\n\n${row.preview}` },
    { id: "priority", label: "Priority", number: true, cell: (row) => count(row.priority) },
    { id: "age", label: "Added", number: true, cell: (row) => duration(age(row.created_ms)), title: () => "ago" },
    { id: "run", label: "Runs for", number: true, cell: (row) => (row.claimed_ms === null ? "" : duration(age(row.claimed_ms))) },
    { id: "beat", label: "Heartbeat", number: true, cell: (row) => (row.heartbeat_ms === null ? "" : duration(age(row.heartbeat_ms))),
      title: () => "ago", alarm: (row) => row.is_stalled },
    { id: "owner", label: "Owner", className: "who", cell: (row) => (row.claimed_by ? owner(row.claimed_by) : ""),
      title: (row) => ownerTitle(row.claimed_by) },
    { id: "added", label: "Added by", className: "who", cell: (row) => owner(row.added_by), title: (row) => ownerTitle(row.added_by) },
    { id: "request", label: "Request", className: "who", cell: (row) => row.request_id ?? "", title: (row) => row.request_id ?? "" },
    { id: "size", label: "Payload", number: true, cell: (row) => size(row.payload_bytes) },
  ];
  return new Table({
    caption, columns, isSelectable, keyOf: (row) => row.number,
    classOf: (row) => (row.is_stalled ? "critical" : row.state === "active" ? "active" : ""),
    empty: "No item here.",
  });
}
