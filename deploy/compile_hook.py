"""Builds the wheel with the hot modules compiled by mypyc: the same sources, about a quarter less time a request.

Off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 (`make compiled` and the image set it); needs a C compiler. The pure wheel
has the same modules and behaves the same: the tests run on both forms (`make test-compiled`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What a request passes through in the shell; of the other layers everything but what stands in _PURE.
_SHELL = (
    "observe/counters",
    "observe/histogram",
    "options",
    "requests/calls",
    "requests/connection",
    "requests/dispatcher",
    "requests/in_flight",
    "requests/open_statements",
    "requests/outbox",
    "requests/replies",
    "requests/statement_log",
    "requests/waits",
)
# The state machine tells this one of every change; the rest of the journal is the disk's.
_OF_THE_JOURNAL = ["storage/journal/recorder.py"]
# Classes with class variables (mypyc's dataclasses and exceptions lose them) or that others derive from, and modules
# that no request passes through.
_PURE = {
    "protocol/client_codec.py",
    "protocol/errors.py",
    "protocol/mysql_login.py",
    "protocol/mysql_parameters.py",
    "protocol/mysql_rows.py",
    "storage/errors.py",
    "storage/memory.py",
    "storage/vocabulary.py",
}
# `make lint` is strict about types; here the libraries may be missing, and what is not compiled is not looked at.
_MYPY_FLAGS = ("--config-file=", "--follow-imports=silent", "--ignore-missing-imports")


def hot_modules(root: Path) -> list[str]:
    """The files to compile, relative to the root of the sources."""
    layers = [
        path.relative_to(root).as_posix()
        for name in ("protocol", "storage", "storage/queue", "storage/cache")
        for path in (root / name).glob("*.py")
    ]
    shell = [f"cubequeue_server/{name}.py" for name in _SHELL]
    return sorted(
        path for path in [*layers, *shell, *_OF_THE_JOURNAL] if path not in _PURE and not path.endswith("__init__.py")
    )


def compile_into(root: Path, target: Path) -> list[str]:
    """Compile the hot modules of `root` into `target`; the names of the files, relative to it."""
    from mypyc.build import mypycify  # noqa: PLC0415  # only there when something is compiled
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    here = Path.cwd()
    os.chdir(root)  # mypy finds the packages from where it runs
    try:
        with tempfile.TemporaryDirectory() as scratch:
            extensions = mypycify(
                [*_MYPY_FLAGS, *hot_modules(root)],
                opt_level="2",
                multi_file=True,
                target_dir=scratch,
                group_name="cubequeue",
            )
            command = build_ext(Distribution({"name": "cubequeue", "ext_modules": extensions}))
            command.build_lib, command.build_temp = str(target), scratch
            command.parallel = os.cpu_count()
            command.ensure_finalized()
            command.run()
    finally:
        os.chdir(here)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*.so"))


class CompileHook(BuildHookInterface[Any]):
    """What hatchling calls around the making of a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the results put into the wheel beside their sources. An editable install stays pure."""
        if version == "editable":
            return
        self._target = Path(tempfile.mkdtemp(prefix="cubequeue-compiled-"))
        for name in compile_into(Path(self.root), self._target):
            build_data["force_include"][str(self._target / name)] = name
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel now has."""
        if version != "editable":
            shutil.rmtree(self._target, ignore_errors=True)
