"""The settings as a person reads them: flags for argparse with their help, and the effective values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NoReturn

from cubequeue_server.settings.resolve import Loaded
from cubequeue_server.settings.table import BY_NAME, CONFIG_VARIABLE, GROUPS, PROCESS_BYTES, Setting

CONFIG_FLAG = "--config"


def add_setting_flags(parser: argparse.ArgumentParser, names: Sequence[str] = ()) -> None:
    """One flag a setting that has an effect, grouped as in the table. Texts are taken as they are, unchecked.

    With `names` the help has only these: the others are taken all the same, as they are given to `serve`.
    """
    if not names:
        parser.usage = "%(prog)s [flags]"
    parser.epilog = (
        f"Each flag has its environment variable, as named, and CUBEQUEUE_ with the flag's name; {CONFIG_VARIABLE} is "
        "that of --config. A flag goes before the environment, the environment before the file."
    )
    parser.add_argument(
        CONFIG_FLAG, metavar="FILE", help="a TOML file of settings, its keys the flags' names with _ for -"
    )
    for title, settings in GROUPS.items():
        effective = [setting for setting in settings if setting.no_effect is None]
        is_shown = any(not names or setting.name in names for setting in effective)
        group = parser.add_argument_group(title) if is_shown else parser
        for setting in effective:
            if setting.is_secret:
                parser.add_argument(
                    setting.flag, action=_Refusal, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS
                )
                continue
            group.add_argument(
                setting.flag,
                dest=setting.name,
                metavar=setting.kind.placeholder,
                default=argparse.SUPPRESS,
                help=_help_line(setting).replace("%", "%%")
                if not names or setting.name in names
                else argparse.SUPPRESS,
            )


class _Refusal(argparse.Action):
    """A flag that is not taken."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        variable = BY_NAME[self.dest].own_variable
        parser.error(
            f"{self.option_strings[0]} is not taken, everyone can read command lines: set {variable} or {variable}_FILE"
        )


def given_flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The texts of the flags that were given, by setting name."""
    return {name: text for name, text in vars(arguments).items() if name in BY_NAME}


def effective_lines(loaded: Loaded) -> Iterator[str]:
    """Each setting as a line of `name`, value and where it came from, in columns."""
    for title, settings in GROUPS.items():
        yield f"# {title}"
        for setting in settings:
            origin = loaded.origins[setting.name]
            shown = setting.kind.show(loaded.values[setting.name])
            yield f"{setting.name:<42} {shown:<22} {origin.label}"


def effective_json(loaded: Loaded) -> dict[str, dict[str, object]]:
    """Each setting by its name, with its value in milliseconds, bytes or as text, and where it came from."""
    return {
        name: {
            "value": value if isinstance(value, int | float | bool) else setting.kind.show(value),
            "from": loaded.origins[name].label,
        }
        for name, value in loaded.values.items()
        for setting in (BY_NAME[name],)
    }


def _help_line(setting: Setting) -> str:
    facts = [setting.main_variable, f"default {setting.kind.show(setting.default)}", *allowed(setting)]
    return f"{setting.help} ({'; '.join(facts)})"


def allowed(setting: Setting) -> Iterator[str]:
    """Which values a setting takes, as phrases."""
    words = getattr(setting.kind, "words", ())
    if words:
        yield ", ".join(words)
    if setting.minimum is not None and setting.maximum is not None:
        yield f"{setting.kind.show(setting.minimum)} to {setting.kind.show(setting.maximum)}"
    if setting.ceiling is not None:
        yield f"at most that of {BY_NAME[setting.ceiling.setting].flag}" + (
            f" less {setting.kind.show(setting.ceiling.less)}" if setting.ceiling.less else ""
        )
    if setting.memory_percent is not None:
        own = setting.kind.show(PROCESS_BYTES)
        yield f"by default at most {setting.memory_percent} % of the memory limit less {own}"
