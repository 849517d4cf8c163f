"""`cubequeue top` on a terminal: the screen and the keys are prompt_toolkit's business, the frames top_frame's."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.styles import Style

from cubequeue_server.commands.client import connected
from cubequeue_server.commands.status_port import StatusPort
from cubequeue_server.commands.top_figures import look
from cubequeue_server.commands.top_frame import SORTS, Figures, View, frame, items_of, queues_of

_STYLE = Style.from_dict(
    {"head": "bold underline", "selected": "reverse", "warning": "ansiyellow", "foot": "ansibrightblack"}
)
_MAX_FILTER = 100


async def live(arguments: argparse.Namespace) -> int:
    """Watch until a key or a signal ends it. Raises CommandError when the server goes."""
    screen = _Screen(arguments)
    looking = asyncio.create_task(screen.look_on())
    looking.add_done_callback(lambda _: screen.end())
    try:
        await screen.run()
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    return 0


class _Screen:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._view = View(queue=arguments.prefix)
        self._url = ""
        self._now: Figures | None = None
        self._before: Figures | None = None
        self._look_now = asyncio.Event()
        self._is_over = asyncio.Event()
        self._application: Application[None] = Application(
            Layout(Window(FormattedTextControl(self._text), always_hide_cursor=True, wrap_lines=False)),
            key_bindings=self._keys(),
            style=_STYLE,
            full_screen=True,
        )
        self._application.ttimeoutlen = 0.1  # Esc is a key of its own here

    async def run(self) -> None:
        """Show frames once there are figures, until the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        while self._now is None and not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await self._is_over.wait()
        if not self._is_over.is_set():
            await self._application.run_async(handle_sigint=False)

    def end(self) -> None:
        """Leave the screen."""
        self._is_over.set()
        self._look_now.set()
        if self._application.is_running:
            self._application.exit()

    async def look_on(self) -> None:
        """Look again and again."""
        async with connected(self._arguments.url) as connection:
            self._url = connection.url.removesuffix("/ws")
            port = StatusPort(connection, self._arguments.status_url)
            while not self._is_over.is_set():
                self._look_now.clear()
                figures = await look(connection, port, self._view)
                self._before, self._now = self._now or figures, figures
                self._clamp()
                self._application.invalidate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._arguments.interval):
                        await self._look_now.wait()

    def _text(self) -> StyleAndTextTuples:
        if self._now is None or self._before is None:
            return []
        terminal: Size = self._application.output.get_size()
        lines = frame(self._now, self._before, self._url, self._view, (terminal.columns, terminal.rows))
        texts: StyleAndTextTuples = []
        for line in lines:
            texts += [("", "\n")] if texts else []
            texts.append((f"class:{line.style}" if line.style else "", line.text))
        return texts

    def _row_count(self) -> int:
        if self._now is None:
            return 0
        return len(queues_of(self._now, self._view) if self._view.queue is None else items_of(self._now, self._view))

    def _clamp(self) -> None:
        self._view.selected = max(0, min(self._view.selected, self._row_count() - 1))

    def _move(self, by: int) -> None:
        self._view.selected += by
        self._clamp()

    def _open(self, queue: str | None) -> None:
        self._view.queue, self._view.selected, self._view.filter = queue, 0, ""
        if self._now is not None:
            self._now.items = []
        self._look_now.set()

    def _enter(self) -> None:
        if self._now is not None and self._view.queue is None:
            queues = queues_of(self._now, self._view)
            if self._view.selected < len(queues):
                self._open(queues[self._view.selected].name)

    def _back(self) -> None:
        if self._view.filter:
            self._view.filter = ""
        elif self._view.queue is not None:
            self._open(None)

    def _sort(self) -> None:
        self._view.sort = SORTS[(SORTS.index(self._view.sort) + 1) % len(SORTS)]

    def _keys(self) -> KeyBindings:
        keys, view = KeyBindings(), self._view
        is_filtering = Condition(lambda: view.is_filtering)
        page = self._page
        actions = {
            "up k": lambda: self._move(-1), "down j": lambda: self._move(1),
            "pageup": lambda: self._move(-page()), "pagedown": lambda: self._move(page()),
            "home g": lambda: self._move(-(1 << 30)), "end G": lambda: self._move(1 << 30),
            "enter": self._enter, "escape backspace": self._back, "s": self._sort,
            "r": lambda: setattr(view, "is_reversed", not view.is_reversed),
            "/": lambda: setattr(view, "is_filtering", True),
            "q Q c-d": self.end,
        }  # fmt: skip
        for names, action in actions.items():
            for name in names.split():
                keys.add(name, filter=~is_filtering)(lambda _event, action=action: action())
        keys.add("c-c")(lambda _event: self.end())

        @keys.add(Keys.Any, filter=is_filtering)
        def _type(event: KeyPressEvent) -> None:
            view.filter = (view.filter + event.data)[:_MAX_FILTER] if event.data.isprintable() else view.filter
            self._clamp()

        @keys.add("backspace", filter=is_filtering)
        def _erase(_event: KeyPressEvent) -> None:
            view.filter = view.filter[:-1]

        @keys.add("enter", filter=is_filtering)
        def _accept(_event: KeyPressEvent) -> None:
            view.is_filtering = False

        @keys.add("escape", filter=is_filtering)
        def _drop(_event: KeyPressEvent) -> None:
            view.is_filtering, view.filter = False, ""

        return keys

    def _page(self) -> int:
        return max(1, self._application.output.get_size().rows - 8)
