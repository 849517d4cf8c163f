"""The page of settings, from the one table of settings."""

from __future__ import annotations

from cubequeue_server.settings.help import allowed
from cubequeue_server.settings.table import FAMILIES_WITHOUT_EFFECT, GROUPS, Setting
from docs_site.tables import code, table


def text() -> str:
    """A section for each group; the settings without effect are one table."""
    sections = []
    for title, group in GROUPS.items():
        heading = f"## {title[0].upper()}{title[1:]}"
        effective = [setting for setting in group if setting.no_effect is None]
        body = table(_HEAD, map(_row, effective)) if effective else _without_effect(group)
        sections.append(f"{heading}\n\n{body}\n")
    return "\n".join(sections)


_HEAD = ("variable", "flag", "default", "allowed", "meaning")


def _row(setting: Setting) -> tuple[str, ...]:
    main, *others = dict.fromkeys([*setting.cubestore, setting.own_variable])
    names = code(main) + "".join(f"<br>or {code(name)}" for name in others)
    flag = "–" if setting.is_secret else code(setting.flag)
    return names, flag, setting.kind.show(setting.default), "; ".join(allowed(setting)) or "–", setting.help


def _without_effect(group: tuple[Setting, ...]) -> str:
    rows = [(code(setting.main_variable), str(setting.no_effect)) for setting in group]
    rows += [(code(f"{prefix}…"), why) for prefix, why in FAMILIES_WITHOUT_EFFECT.items()]
    return table(("variable", "why it changes nothing"), rows)
