"""The real deployment in small: two whole Cube API servers on one cubequeue, asked over REST."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from protocol.client_codec import ArrowReply
from protocol.messages import ResponseFormat
from tests.clients.processes import Cubequeue, Listener
from tests.clients.recording_proxy import Exchange, RecordingProxy
from tests.e2e.api_server import ORDERS, ApiServer, DataSource

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Long enough that all who ask for the same do so before it is answered.
DELAY_MS = 3000
QUERIES = 6
REPEATS = 5


# Everything that the newest client can do and does only when told to.
SWITCHES = {"CUBEJS_QUEUE_FAST_TRACK": "true", "CUBEJS_QUEUE_EXTERNAL_ID": "true"}


@contextmanager
def deployment(
    versions: tuple[str, ...],
    folder: Path,
    delay_ms: int,
    settings: Mapping[str, str] | None = None,
    before: Callable[[Cubequeue], Listener] = lambda cubequeue: cubequeue,
) -> Iterator[tuple[Cubequeue, DataSource, list[ApiServer]]]:
    """A cubequeue and API servers at it, or at what stands `before` it."""
    data = DataSource(folder)
    with ExitStack() as stack:
        cubequeue = stack.enter_context(Cubequeue(folder / "cubequeue.log"))
        servers = []
        for number, version in enumerate(versions):
            own = folder / f"api{number}"
            own.mkdir()
            servers.append(stack.enter_context(ApiServer(version, before(cubequeue), data, own, delay_ms, settings)))
        yield cubequeue, data, servers
    assert cubequeue.complaints == []


def orders_up_to(number: int) -> dict[str, Any]:
    return {
        "measures": ["orders.count", "orders.total"],
        "dimensions": ["orders.status"],
        "filters": [{"member": "orders.id", "operator": "lte", "values": [str(number)]}],
        "order": [["orders.status", "asc"]],
    }


def expected_orders(data: DataSource, number: int) -> list[dict[str, Any]]:
    rows = data.rows(
        f"SELECT status, count(*), sum(amount) FROM orders WHERE id <= {number} GROUP BY status ORDER BY status"
    )
    return [{"orders.status": status, "orders.count": count, "orders.total": total} for status, count, total in rows]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """The answers of calls that begin together."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def as_numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Older servers give numbers as text."""
    return [{key: int(value) if str(value).isdigit() else value for key, value in row.items()} for row in rows]


def asked_together(servers: list[ApiServer], numbers: list[int]) -> dict[int, list[list[dict[str, Any]]]]:
    calls = [(number, server) for number in numbers for server in servers for _ in range(REPEATS)]
    answers = at_once([partial(server.load, orders_up_to(number)) for number, server in calls])
    found: dict[int, list[list[dict[str, Any]]]] = {number: [] for number in numbers}
    for (number, _), rows in zip(calls, answers, strict=True):
        found[number].append(as_numbers(rows))
    return found


@pytest.mark.parametrize("versions", [("1.7.43", "1.7.43"), ("0.35.81", "0.35.81")], ids="+".join)
def test_each_query_is_executed_once(versions: tuple[str, ...], tmp_path: Path) -> None:
    check_each_query_is_executed_once(versions, tmp_path)


def test_the_newest_servers_take_every_shortcut(tmp_path: Path) -> None:
    """Seen on the wire: Arrow from the second statement on, urgent queries added and claimed in one step, and each
    request's result under its id."""
    with ExitStack() as stack:

        def record(cubequeue: Cubequeue) -> RecordingProxy:
            proxies.append(stack.enter_context(RecordingProxy(cubequeue.port)))
            return proxies[-1]

        proxies: list[RecordingProxy] = []
        check_each_query_is_executed_once(("1.7.43", "1.7.43"), tmp_path, SWITCHES, record)
    for proxy in proxies:
        check_shortcuts(proxy.exchanges)
    # One of them may have executed everything, and the other acknowledged nothing.
    assert with_parameters([each for proxy in proxies for each in proxy.exchanges]) >= {"QUEUE ACK"}
    claims = [row for proxy in proxies for row in claimed_at_once(proxy.exchanges)]
    assert len(claims) >= QUERIES, "most queries find a free slot"
    assert len({row["id"] for row in claims}) == len(claims), "and none is given twice"


def check_shortcuts(exchanges: list[Exchange]) -> None:
    asked = [each for each in exchanges if each.text.startswith(("QUEUE ", "CACHE "))]
    assert [(each.text, each.error) for each in exchanges if each.error is not None] == []
    # What is sent before the first answer has seen no announcement.
    in_arrow = [isinstance(each.reply, ArrowReply) for each in asked]
    assert in_arrow == [each.request.response_format == ResponseFormat.ARROW for each in asked]
    assert sum(in_arrow) > 0.9 * len(asked)
    added = [each for each in asked if re.match("QUEUE ADD\\w* .*PRIORITY 10 ", each.text)]
    assert sum(each.text.startswith("QUEUE ADD_AND_RETRIEVE ") for each in added) > 0.9 * len(added)
    assert all(" EXTERNAL_ID " in each.text for each in added if each.text.startswith("QUEUE ADD_AND_RETRIEVE "))
    assert any(each.text.startswith("QUEUE RESULT EXTERNAL_ID ") for each in asked)
    assert with_parameters(asked) >= {"CACHE GET", "CACHE SET TTL"}


def with_parameters(exchanges: list[Exchange]) -> set[str]:
    """The statements that were sent with native parameters, up to the first of these."""
    return {each.text.split(" ?")[0].strip() for each in exchanges if each.request.parameters}


def claimed_at_once(exchanges: list[Exchange]) -> list[dict[str, object]]:
    """The rows of ADD_AND_RETRIEVE that gave a query to who added it."""
    rows = [row for each in exchanges if each.text.startswith("QUEUE ADD_AND_RETRIEVE ") for row in each.rows()]
    return [row for row in rows if row["payload"] is not None]


def check_each_query_is_executed_once(
    versions: tuple[str, ...],
    folder: Path,
    settings: Mapping[str, str] | None = None,
    before: Callable[[Cubequeue], Listener] = lambda cubequeue: cubequeue,
) -> None:
    numbers = [ORDERS - step for step in range(QUERIES)]
    with deployment(versions, folder, DELAY_MS, settings, before) as (_, data, servers):
        at_once([partial(server.load, orders_up_to(1)) for server in servers])
        warm = data.executed("orders")
        found = asked_together(servers, numbers)
        assert found == {number: [expected_orders(data, number)] * (REPEATS * 2) for number in numbers}
        executed = data.executed("orders") - warm
        assert len(executed) == QUERIES
        assert set(executed.values()) == {1}
        again = asked_together(servers, numbers)
        assert again == found
        assert data.executed("orders") - warm == executed, "the second time the cache answers"
        for server in servers:
            assert server.complaints == []


def test_an_old_and_a_new_server_share_one_queue(tmp_path: Path) -> None:
    """What one added the other may run; the results are right on both, and no more than one execution a version."""
    numbers = [ORDERS - step for step in range(QUERIES)]
    with deployment(("1.7.43", "0.35.81"), tmp_path, DELAY_MS) as (_, data, servers):
        at_once([partial(server.load, orders_up_to(1)) for server in servers])
        warm = data.executed("orders")
        found = asked_together(servers, numbers)
        assert found == {number: [expected_orders(data, number)] * (REPEATS * 2) for number in numbers}
        assert max((data.executed("orders") - warm).values()) <= 2
        for server in servers:
            assert server.complaints == []


@pytest.mark.parametrize("version", ["1.7.43", "0.35.81"])
def test_default_refresh_keys_renew_the_cache(version: str, tmp_path: Path) -> None:
    query = {"measures": ["visits.count"], "dimensions": ["visits.page"], "order": [["visits.page", "asc"]]}
    with deployment((version,), tmp_path, 0) as (_, data, (server,)):
        expected = [{"visits.page": f"/{page}", "visits.count": 20} for page in range(5)]
        assert as_numbers(server.load(query)) == expected
        first = data.executed("visits").total()
        assert first >= 1
        end = time.monotonic() + 40
        while data.executed("visits").total() == first:
            assert time.monotonic() < end, "the refresh key moves every ten seconds, and the query is run again"
            time.sleep(1)
            assert as_numbers(server.load(query)) == expected
        assert "UNIX_TIMESTAMP" in server.log.read_text(), "it is cubequeue that is asked for the refresh key"
        assert server.complaints == []


@pytest.mark.parametrize("version", ["1.7.43", "0.35.81"])
def test_a_rollup_is_built_once_and_answers(version: str, tmp_path: Path) -> None:
    """Kept in the data source, it needs cache and queue alone: its own queues, locks and lists of tables."""
    query = {"measures": ["pages.count"], "dimensions": ["pages.page"], "order": [["pages.page", "asc"]]}
    with deployment((version,), tmp_path, DELAY_MS) as (_, data, (server,)):
        expected = [{"pages.page": f"/{page}", "pages.count": 20} for page in range(5)]
        for rows in at_once([partial(server.load, query)] * REPEATS):
            assert as_numbers(rows) == expected
        executed = [line["query"] for line in data.queries()]
        assert sum(text.startswith("CREATE TABLE prod_pre_aggregations.pages_by_page") for text in executed) == 1
        assert (
            sum(text.startswith("SELECT") and "FROM prod_pre_aggregations.pages_by_page" in text for text in executed)
            == 1
        )
        assert server.complaints == []


@pytest.mark.parametrize(("how", "settings"), [("killed", SWITCHES), ("stopped", {})], ids=["killed", "stopped"])
def test_the_servers_get_over_a_restart_of_cubequeue(how: str, settings: dict[str, str], tmp_path: Path) -> None:
    numbers = [ORDERS - step for step in range(QUERIES)]
    with deployment(("1.7.43", "1.7.43"), tmp_path, DELAY_MS, settings) as (cubequeue, data, servers):
        at_once([partial(server.load, orders_up_to(1)) for server in servers])
        found: dict[int, list[list[dict[str, Any]]]] = {}
        asking = threading.Thread(target=lambda: found.update(asked_together(servers, numbers)))
        asking.start()
        time.sleep(1.5)
        (cubequeue.kill if how == "killed" else cubequeue.terminate)()
        cubequeue.start()
        asking.join()
        assert found == {number: [expected_orders(data, number)] * (REPEATS * 2) for number in numbers}
        assert as_numbers(servers[0].load(orders_up_to(10))) == expected_orders(data, 10)
