"""Many requests that one statement releases: they are answered in steps, between other requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from storage.answers import Answers, SharedText
from storage.asking import Later, Outcome, Turns
from storage.recorder import AnswerGroup, Recorder
from storage.vocabulary import RequestKey, Result

# So many requests are answered in one step: a tenth of a millisecond, mostly for encoding and writing.
STEP: Final = 16


class Kept:
    """The answers that are owed to released requests: written already, and kept when each request is answered.

    Until then `find` has them for a request that is sent again.
    """

    __slots__ = ("_answers", "_group", "_now_ms", "_owed", "_pool", "_recorder", "_result", "_shared")

    def __init__(
        self, owed: dict[RequestKey, Later], result: Result, answers: Answers, recorder: Recorder | None, now_ms: int
    ) -> None:
        self._owed = owed
        self._result = result
        self._answers = answers
        self._recorder = recorder
        self._now_ms = now_ms
        self._group: AnswerGroup | None = None
        self._pool = answers.pool_of(result)
        self._shared = SharedText(result, len(owed)) if len(owed) > 1 else None
        if recorder is not None and owed:
            self._group = recorder.answers_kept(list(owed), result, now_ms)

    def find(self, key: RequestKey) -> Result | None:
        """The answer that is owed to this request."""
        return self._result if key in self._owed else None

    def keep(self, later: Later) -> None:
        """Keep the answer to a request, if it is owed."""
        key = later.request_key
        if key is None or self._owed.pop(key, None) is None:
            return
        answers = self._answers
        if answers.find(key) is None:
            answers.keep(key, self._result, self._now_ms, later.host, self._pool, self._group, self._shared)
            return
        if self._recorder is not None and self._group is not None:
            self._recorder.answer_dropped(self._group, self._result)
        if self._shared is not None:
            answers.leave(self._shared)


class Release(Later):
    """Many requests as one `Later`: its outcome goes to each. `on_end` is called when all are answered."""

    __slots__ = "_kept", "_on_end", "_requests", "_turns"

    def __init__(
        self, requests: list[Later], kept: Kept | None, turns: Turns, on_end: Callable[[], None] | None = None
    ) -> None:
        super().__init__(None)
        self._requests = requests
        self._kept = kept
        self._turns = turns
        self._on_end = on_end

    def done(self, outcome: Outcome) -> None:
        self._turns(self._steps(outcome))

    def _steps(self, outcome: Outcome) -> Iterator[None]:
        requests, self._requests = self._requests, []
        requests.reverse()
        kept = self._kept if type(outcome) is Result else None  # an error is not kept
        while requests:
            for _ in range(min(STEP, len(requests))):
                later = requests.pop()
                if kept is not None:
                    kept.keep(later)
                later.done(outcome)
            yield
        if self._on_end is not None:
            self._on_end()
