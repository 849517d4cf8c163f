"""Transition tables as mermaid: the pictures of docs/protocol.md."""

from __future__ import annotations

import enum
from collections.abc import Iterable

# States in which there is nothing: the dot that a life begins and ends in.
_NOTHING = ("absent", "none")


def state_diagram(transitions: Iterable[tuple[enum.Enum, enum.Enum, enum.Enum]]) -> str:
    """A fenced mermaid block with one arrow for each pair of states, in the order of the table."""
    events: dict[tuple[str, str], list[str]] = {}
    for state, event, then in transitions:
        events.setdefault((_node(state), _node(then)), []).append(event.value)
    arrows = [f"    {state} --> {then}: {' / '.join(names)}" for (state, then), names in events.items()]
    return "\n".join(("```mermaid", "stateDiagram-v2", *arrows, "```"))


def _node(state: enum.Enum) -> str:
    return "[*]" if state.value in _NOTHING else str(state.value)
