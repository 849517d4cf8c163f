"""How clients share the room for kept answers: nobody takes it from the others (decisions, "Kept answers")."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.answers import ANSWER_OVERHEAD_BYTES, Answers
from storage.asking import Caller
from storage.errors import UserError
from storage.limits import LARGE_TEXT_BYTES, MIB, AnswerLimits, QueueLimits
from storage.shares import Pool
from storage.vocabulary import (
    ADD_COLUMNS,
    CacheIncr,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    RequestKey,
    Result,
    Statement,
)
from tests.asking import Told
from tests.audit import audit
from tests.storage.queue_world import World

ROOM = 64 * ANSWER_OVERHEAD_BYTES
HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


class Clients:
    """Clients by address and connection id, each message of which is a new one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._messages = 0

    def ask(
        self, statement: Statement, host: str = HOSTS[0], connection: bytes = b"c", user: bytes = b""
    ) -> RequestKey:
        """Have a statement executed; returns the key of its message."""
        self._messages += 1
        key = (user, connection, self._messages)
        self.world.store.execute(statement, Caller(host=host), key, self.world.now_ms)
        audit(self.world.store)
        return key

    def is_refused(
        self, statement: Statement, host: str = HOSTS[0], connection: bytes = b"c", user: bytes = b""
    ) -> str:
        """Whether it is: the text, or an empty one."""
        try:
            self.ask(statement, host, connection, user)
        except UserError as error:
            return error.wire_text
        return ""


def clients(max_bytes: int = 4 * ROOM, queue: QueueLimits | None = None) -> Clients:
    """`max_bytes` leaves room for 64 answers without texts."""
    return Clients(World(queue, AnswerLimits(max_bytes=max_bytes)))


COUNT = CacheIncr(b"c:n")


# One past each bound.


def test_a_client_gets_half_of_the_room_and_then_is_refused() -> None:
    world = clients()
    told = [world.is_refused(COUNT) for _ in range(34)]
    assert told[:33] == [""] * 33
    assert told[33] != ""


@pytest.mark.parametrize(
    ("user", "who"), [(b"", "address 10.0.0.1"), (b"anna", "user 'anna'")], ids=["by address", "by user"]
)
def test_the_refusal_says_whose_share_and_names_the_setting(user: bytes, who: str) -> None:
    world = clients()
    text = ""
    while not text:
        text = world.is_refused(COUNT, user=user)
    assert f"fill the share of {who}: {33 * ANSWER_OVERHEAD_BYTES} bytes of answers without texts" in text
    assert f"CUBEQUEUE_ANSWERS_MAX_SIZE gives {ROOM} bytes" in text
    assert text.endswith(f"of which {31 * ANSWER_OVERHEAD_BYTES} are free")
    gauges = world.world.store.gauges()
    assert (gauges["answers_refused"], gauges["answer_owners_refused"]) == (1, 1)
    world.world.later(300_000)
    world.world.settle()
    assert world.world.gauge("answer_owners_refused") == 0
    assert world.is_refused(COUNT, user=user) == ""


def test_other_connections_of_the_address_go_on_up_to_three_quarters() -> None:
    world = clients()
    while not world.is_refused(COUNT):
        pass
    told = [world.is_refused(COUNT, connection=b"other %d" % number) for number in range(20)]
    assert told.index(next(filter(None, told))) == 49 - 33


def test_connection_ids_alone_do_not_take_what_is_left() -> None:
    world = clients()
    for number in range(1_000):
        world.is_refused(COUNT, connection=b"%d" % number)
    assert world.world.gauge("answers") <= 49
    assert [world.is_refused(COUNT, HOSTS[1]) for _ in range(7)] == [""] * 7


def test_a_user_has_one_share_on_all_addresses_and_none_of_anothers() -> None:
    world = clients()
    while not world.is_refused(COUNT, user=b"anna"):
        pass
    assert world.is_refused(COUNT, HOSTS[1], user=b"anna")
    assert not world.is_refused(COUNT, user=b"bert")
    assert not world.is_refused(COUNT)


def test_each_address_takes_half_of_what_is_left_and_so_something_always_is() -> None:
    world = clients(4 * 1_024 * ANSWER_OVERHEAD_BYTES)
    counts: list[int] = []
    for number in range(5):
        counts.append(0)
        while not world.is_refused(COUNT, f"10.1.0.{number}"):
            counts[-1] += 1
    assert counts == [513, 256, 128, 64, 32]


# Two kinds of answers.


def claimed(world: Clients, path: bytes, payload_bytes: int) -> None:
    world.world.add(path, b"x" * payload_bytes)
    assert world.world.retrieve(path)


def test_texts_that_fill_the_room_refuse_no_statement_without() -> None:
    world = clients(MIB)
    for number in range(100):
        claimed(world, b"p:%d" % number, 50_000)
    told = [world.is_refused(QueueCancel(b"p:%d" % number), connection=b"%d" % number) for number in range(100)]
    assert any(told)
    for statement in (QueueAdd(b"p:new", b"{}"), QueueAck(b"p:99", b"r"), COUNT):
        assert not world.is_refused(statement)


def test_small_answers_that_fill_the_room_refuse_no_claim() -> None:
    world = clients()
    world.world.add(b"p:a")
    while not world.is_refused(COUNT):
        pass
    assert not world.is_refused(QueueRetrieve(b"p:a", 9))


# Large payloads of live items.

LARGE = LARGE_TEXT_BYTES + 1


def test_ten_claims_of_60_mb_by_a_client_without_pongs_leave_others_alone() -> None:
    """What is claimed is there anyway: it counts as the items'. What CANCEL takes away counts, for its client alone."""
    world = clients(512 * MIB)
    payload = bytes(60 * MIB)
    for number in range(10):
        world.world.store.execute(QueueAdd(b"p:%d" % number, payload), Caller(), None, world.world.now_ms)
        assert not world.is_refused(QueueRetrieve(b"p:%d" % number, 100))
    assert world.world.gauge("answer_bytes") < MIB
    cancelled = [not world.is_refused(QueueCancel(b"p:%d" % number)) for number in range(10)]
    assert 2 <= cancelled.count(True) <= 4
    assert world.world.gauge("answer_bytes_texts") <= 384 * MIB
    world.world.add(b"q:b", b"{}")
    for statement in (QueueRetrieve(b"q:b", 9), QueueAdd(b"q:c", b"{}"), QueueAck(b"q:b", b"r"), QueueResult(b"q:b")):
        assert not world.is_refused(statement, HOSTS[1], b"other")


@pytest.mark.parametrize("size", [LARGE_TEXT_BYTES, LARGE])
@pytest.mark.parametrize(
    "claim", [QueueRetrieve(b"p:a", 9), QueueAddAndRetrieve(b"p:a", b"", 9)], ids=["retrieve", "add"]
)
def test_a_large_payload_counts_once_its_item_has_gone(claim: Statement, size: int) -> None:
    world = clients(512 * MIB)
    world.world.add(b"p:a", b"x" * size)
    key = world.ask(claim)
    is_large = size > LARGE_TEXT_BYTES
    assert (world.world.gauge("answer_bytes") > size) is not is_large
    assert world.world.gauge("answers_unconfirmed") == 1
    assert world.world.ack(b"p:a", None)
    audit(world.world.store)
    assert world.world.gauge("answer_bytes") > size
    assert world.world.gauge("answers_unconfirmed") == (0 if is_large else 1), "it gives way"
    assert world.world.store.answers.find(key) is not None, "but not before there is need"


def test_a_claim_whose_large_item_has_gone_gives_way() -> None:
    world = clients(MIB)
    for number in range(100):
        world.world.add(b"p:%d" % number, b"x" * LARGE)
        assert not world.is_refused(QueueRetrieve(b"p:%d" % number, 9))
        assert world.world.ack(b"p:%d" % number, None)
    assert world.world.gauge("answer_bytes") < MIB


def test_clear_lets_all_claims_give_way_in_slices() -> None:
    world = clients(512 * MIB)
    for number in range(5):
        world.world.add(b"p:%d" % number, b"x" * LARGE)
        world.ask(QueueRetrieve(b"p:%d" % number, 9))
    world.ask(QueueClear())
    assert world.world.gauge("answer_bytes") < LARGE
    world.world.store.tick(world.world.now_ms, 2)
    audit(world.world.store)
    assert 2 * LARGE < world.world.gauge("answer_bytes") < 3 * LARGE
    world.world.settle()
    audit(world.world.store)
    assert world.world.gauge("answer_bytes") > 5 * LARGE


def test_an_answer_to_a_claim_that_expires_before_its_item_leaves_nothing_behind() -> None:
    world = clients(512 * MIB)
    world.world.add(b"p:a", b"x" * LARGE)
    world.ask(QueueRetrieve(b"p:a", 9))
    world.world.later(300_000)
    world.world.settle()
    audit(world.world.store)
    assert not world.world.store.answers._claims
    assert world.world.ack(b"p:a", None)
    assert world.world.gauge("answer_bytes") == 0


# Waits whose answers have no room.


def test_a_result_whose_waiter_has_used_up_its_share_is_stored_instead() -> None:
    """ACK is never refused for it, and the waiter that asks again finds the result."""
    world = clients(MIB)
    cancelled = -1
    while cancelled < 0 or not world.is_refused(QueueCancel(b"p:%d" % cancelled)):
        cancelled += 1
        claimed(world, b"p:%d" % cancelled, 50_000)
    world.world.add(b"q:w")
    key = (b"", b"c", 10_000)
    store, now_ms = world.world.store, world.world.now_ms
    later = store.execute(QueueResultBlocking(b"q:w", 1_000), Caller(host=HOSTS[0]), None, now_ms)
    assert isinstance(later, Told)
    later.request_key, later.host = key, HOSTS[0]
    refused = world.world.gauge("answers_refused")
    assert world.world.ack(b"q:w", b"r")
    audit(store)
    assert later.rows == [(b"r", b"success", later.rows[0][2], None)]
    assert store.answers.find(key) is None
    assert world.world.gauge("answers_refused") == refused + 1
    assert world.world.result(b"q:w") == b"r"


# The law.


@settings(max_examples=300, deadline=None)
@given(
    asks=st.lists(
        st.tuples(st.sampled_from([b"", b"anna"]), st.sampled_from(HOSTS), st.integers(0, 3), st.integers(0, 2_000)),
        max_size=120,
    ),
    confirms=st.sets(st.integers(0, 119)),
)
def test_the_rule(asks: list[tuple[bytes, str, int, int]], confirms: set[int]) -> None:
    """Admitted exactly by the rule; no owner above three quarters but for one answer; a newcomer always gets in."""
    answers = Answers(AnswerLimits(max_bytes=40_000), None)
    pool = answers.small
    held: defaultdict[bytes | str, Counter[bytes]] = defaultdict(Counter)
    for number, (user, host, connection, _) in enumerate(asks):
        key = (user, b"%d" % connection, number)
        owner = user or host
        free = pool.max_bytes - pool.size_bytes
        mine, all_mine = held[owner][key[1]], held[owner].total()
        expected = free > 0 and (all_mine <= free or (all_mine <= 3 * free and 4 * mine <= free))
        assert pool.has_room(key, host) is expected
        if not expected:
            continue
        answers.keep(key, Result(ADD_COLUMNS, ()), 0, host, pool)
        held[owner][key[1]] += ANSWER_OVERHEAD_BYTES
        assert held[owner].total() <= pool.max_bytes * 3 // 4 + ANSWER_OVERHEAD_BYTES
        if number in confirms:
            answers.confirm([key])
            pool.give_way_bytes = 0
            answers.make_room(pool)
            held[owner][key[1]] -= ANSWER_OVERHEAD_BYTES
        audit(answers)
    assert pool.size_bytes >= pool.max_bytes or pool.has_room((b"", b"new", 0), "10.9.9.9")


def test_an_empty_pool_holds_nothing() -> None:
    pool = Pool("answers", 1_000, 500)
    share = pool.share("host", b"c")
    share.size_bytes = share.owner.size_bytes = pool.size_bytes = 10
    pool.take(share, 10)
    assert not pool.owners
