"""The page of the command line, from its parsers."""

from __future__ import annotations

import argparse

from cubequeue_server.arguments import COMMANDS, make_parser
from cubequeue_server.settings.table import BY_NAME
from docs_site.tables import code, table


def text() -> str:
    """A table of the commands, and a section for each with its arguments."""
    overview = table(
        ("command", "what it does"), [(f"[`{name}`](#{name})", command.help) for name, command in COMMANDS.items()]
    )
    return "\n".join([f"{overview}\n", *map(_section, COMMANDS)])


def _section(name: str) -> str:
    parser = _subparser(name)
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]  # noqa: SLF001
    own = [action for action in actions if action.dest not in BY_NAME]
    takes_settings = any(action.dest in BY_NAME for action in actions)
    words = " ".join(["cubequeue", name, *map(_usage, own), *(["[flags of settings]"] if takes_settings else [])])
    parts = [f"## {name}", f"```sh\n{words}\n```", f"{parser.description}"]
    if own:
        parts.append(table(("argument", "meaning"), [(code(_shown(action)), str(action.help)) for action in own]))
    if takes_settings:
        parts.append("Each setting has a flag: [settings](settings.md).")
    return "\n\n".join(parts) + "\n"


def _subparser(name: str) -> argparse.ArgumentParser:
    return make_parser(name)[1][name]


def _shown(action: argparse.Action) -> str:
    """The flag with what follows it, or the name of a positional argument."""
    value = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return value
    flag = action.option_strings[-1]
    return flag if action.nargs == 0 else f"{flag} {value}"


def _usage(action: argparse.Action) -> str:
    is_optional = bool(action.option_strings) or action.nargs == "?"
    return f"[{_shown(action)}]" if is_optional else _shown(action)
