"""A client without I/O: its messages read as each would alone, but for repeats; and what it proves to have."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.client_codec import QueryEncoder, encode_query
from protocol.decode import decode_request
from protocol.errors import DecodeError
from protocol.messages import Request
from protocol.plain_shape import MAX_HEAD_BYTES, NO_SHAPE
from protocol.session import MAX_CONNECTION_ID_BYTES, Session
from storage.vocabulary import RequestKey
from tests.protocol import strategies
from tests.protocol.oracle import build_request

CONNECTION_ID = b"7e9a1f6c-33c1-4a7e-9d3c-2f4b7c0a9d11"
USER = b"ann"
REMEMBERED = 1024  # ids of messages (wire.md §3)
UNPROVED_ANSWERS, UNPROVED_BYTES = 1024, 1 << 20  # make a ping due at once (decisions)

plain_requests = st.builds(
    Request,
    message_id=strategies.message_ids,
    connection_id=st.sampled_from([None, b"", CONNECTION_ID]),
    query=strategies.texts,
    parameters=st.none() | st.just((1, b"x")),
    response_format=st.integers(0, 2),
)


def built(request: Request) -> bytes:
    return build_request(request)


def encoded(request: Request) -> bytes:
    return encode_query(request.message_id, request.query)


def quick(request: Request) -> bytes:
    connection_id = None if request.connection_id is None else request.connection_id.decode()
    return QueryEncoder(connection_id, request.response_format % 2).encode(request.message_id, request.query)


def bare(request: Request) -> bytes:
    return request.query


encoders: st.SearchStrategy[Callable[[Request], bytes]] = st.sampled_from([built, encoded, quick, bare])


def outcome(decode: Callable[[bytes | memoryview], Request | None], message: bytes | memoryview) -> object:
    try:
        return decode(message)
    except DecodeError as error:
        return error.text, error.message_id, error.closes


class Plain:
    """The same by its rules alone: each message is decoded whole, and the newest ids are compared one by one."""

    def __init__(self) -> None:
        self._client_id: bytes | None = None
        self._seen: dict[int, int] = {}

    def receive(self, message: bytes | memoryview) -> Request | None:
        request = decode_request(message)
        if request.connection_id is None:
            return request
        if request.connection_id != self._client_id:
            self._client_id = request.connection_id
            self._seen.clear()
        slot, id_ = request.message_id % REMEMBERED, request.message_id
        if self._seen.get(slot) == id_:
            return None
        self._seen[slot] = id_
        return request


def session() -> Session:
    return Session(USER, 0.0)


# Messages


@given(st.lists(st.tuples(plain_requests, encoders), max_size=12), st.sampled_from([bytes, memoryview]))
def test_any_row_of_messages_reads_as_each_would_alone(
    messages: list[tuple[Request, Callable[[Request], bytes]]], kind: type[bytes] | type[memoryview]
) -> None:
    tested, plain = session(), Plain()
    for request, encode in messages:
        message = encode(request)
        assert outcome(tested.receive, kind(message)) == outcome(plain.receive, message)


@given(
    st.lists(st.tuples(plain_requests, encoders), max_size=3),
    plain_requests,
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_message_after_sound_ones_reads_as_it_would_alone(
    before: list[tuple[Request, Callable[[Request], bytes]]], request: Request, damage: list[tuple[int, int]]
) -> None:
    tested, plain = session(), Plain()
    sound = build_request(request)
    damaged = bytearray(sound)
    for position, value in damage:
        damaged[position % len(damaged)] = value
    messages = [*(encode(each) for each, encode in before), sound, bytes(damaged), sound, bytes(damaged[:-5])]
    for message in [*messages, sound + b"tail", sound[:-1], b"", b"\xff" * 8]:
        assert outcome(tested.receive, message) == outcome(plain.receive, message)


@given(plain_requests, st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_after_a_learned_head_read_as_they_would_alone(request: Request, junk: bytes, cut: int) -> None:
    tested, plain = session(), Plain()
    sound = build_request(request)
    for message in (sound, sound[:cut] + junk, junk, junk + sound[cut:], sound[: len(sound) - cut % len(sound)]):
        assert outcome(tested.receive, message) == outcome(plain.receive, message)


def test_every_bit_of_a_learned_message_and_of_the_next() -> None:
    """A shape learned from any damaged message must not misread the next one of the same head."""
    first = build_request(Request(0x01020304, CONNECTION_ID, b"QUEUE GET 'a'"))
    other_id, other_text = Request(0x0A0B0C0D, CONNECTION_ID, b"QUEUE GET 'a'"), Request(1, CONNECTION_ID, b"SELECT 1")
    seconds = [bytearray(build_request(request)) for request in (other_id, other_text)]
    for position in range(len(first) - 16):
        for bit in range(8):
            tested, plain = session(), Plain()
            damaged = bytearray(first)
            damaged[position] ^= 1 << bit
            assert outcome(tested.receive, bytes(damaged)) == outcome(plain.receive, bytes(damaged))
            for second in seconds:
                second[position] ^= 1 << bit
                assert outcome(tested.receive, bytes(second)) == outcome(plain.receive, bytes(second))
                second[position] ^= 1 << bit


@pytest.mark.parametrize(
    "encode",
    [
        lambda id_, text: build_request(Request(id_, CONNECTION_ID, text)),
        lambda id_, text: build_request(Request(id_, None, text)),
        QueryEncoder(CONNECTION_ID.decode()).encode,
        QueryEncoder().encode,
    ],
    ids=["built", "built, anonymous", "quick", "quick, anonymous"],
)
def test_the_shape_of_plain_messages_is_learned_from_the_first(encode: Callable[[int, bytes], bytes]) -> None:
    tested = session()
    tested.receive(encode(1, b"SELECT 1"))
    shape, lessons_left = tested._shape, tested._lessons_left
    assert shape is not NO_SHAPE
    for id_, text in ((2, b"QUEUE LIST 'p'"), (3, b""), (2**32 - 1, b"x" * 100_000)):
        request = tested.receive(encode(id_, text))
        assert request is not None
        assert (request.message_id, request.query) == (id_, text)
    assert tested._shape is shape
    assert tested._lessons_left == lessons_left, "the whole of a message was read again"
    request = tested.receive(encode(4, "é".encode()))
    assert request is not None
    assert request.query == "é".encode()


def test_a_text_that_is_not_utf_8_is_refused_also_in_a_learned_shape() -> None:
    tested = session()
    tested.receive(build_request(Request(1, CONNECTION_ID, b"SELECT 'e'")))
    for text in (b"\xff", b"SELECT '\xc3'", b"\xed\xa0\x80"):
        with pytest.raises(DecodeError):
            tested.receive(build_request(Request(2, CONNECTION_ID, text)))


def test_a_client_that_changes_its_shape_all_the_time_is_not_learned_from_for_ever() -> None:
    tested = session()
    for index in range(100):
        request = Request(1, b"c" * index, b"SELECT 1")
        assert tested.receive(build_request(request)) == request
    assert tested._lessons_left == 0


def test_a_head_that_is_too_long_is_not_learned() -> None:
    tested = session()
    for id_ in (1, 2):
        request = Request(id_, b"c" * MAX_HEAD_BYTES, b"SELECT 1")
        assert tested.receive(build_request(request)) == request
    assert tested._shape is NO_SHAPE


# Repeats


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, b"one", b"two"]),
            st.sampled_from([0, 1, 2, 3, 1023, 1024, 1025, 2047, 2048, 2**31, 2**32 - 1, 2**32 - 1024]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_a_repeat_is_what_this_connection_has_asked_before(asked: list[tuple[bytes | None, int, bool]]) -> None:
    tested, plain = session(), Plain()
    for connection_id, message_id, is_plain in asked:
        request = Request(message_id, connection_id, b"CACHE GET 'a'", None if is_plain else (1,))
        message = build_request(request)
        assert tested.receive(message) == plain.receive(message)


@pytest.mark.parametrize("is_learned", [True, False])
def test_ids_are_told_apart_as_far_as_they_are_remembered(is_learned: bool) -> None:
    tested = session()

    def is_repeat(message_id: int, connection_id: bytes | None = CONNECTION_ID) -> bool:
        request = Request(message_id, connection_id, b"SELECT 1", None if is_learned else ())
        return tested.receive(build_request(request)) is None

    assert not any(is_repeat(id_) for id_ in range(REMEMBERED))
    assert all(is_repeat(id_) for id_ in range(REMEMBERED))
    assert not is_repeat(REMEMBERED)
    assert not is_repeat(0), "it is no longer remembered"
    assert not is_repeat(5, None)
    assert not is_repeat(5, None), "without a connection id nothing is a repeat"
    assert is_repeat(5), "and nothing was forgotten"
    assert not is_repeat(5, b"another client"), "the ids of each client are its own"
    assert not is_repeat(5)


def test_what_is_remembered_takes_8_kb_however_many_clients_come() -> None:
    tested = session()
    for number in range(3 * REMEMBERED):
        tested.receive(build_request(Request(number, b"%d" % number, b"SELECT 1")))
    assert isinstance(tested._seen, array)
    assert len(tested._seen) * tested._seen.itemsize == 8 * REMEMBERED


# Proof of arrival


def key(number: int) -> RequestKey:
    return USER, CONNECTION_ID, number


def test_a_pong_proves_what_was_sent_before_its_ping() -> None:
    tested = session()
    assert tested.on_pong(b"1") == [], "there was no ping"
    tested.sent(key(1), 10)
    tested.sent(key(2), 10)
    payload = tested.ping(1.0)
    assert payload is not None
    tested.sent(key(3), 10)
    assert tested.ping(1.1) is None, "one is under way"
    assert tested.on_pong(payload + b"0") == []
    assert tested.on_pong(payload) == [key(1), key(2)]
    assert tested.on_pong(payload) == [], "it proves once"
    second = tested.ping(2.0)
    assert second not in (None, payload)
    assert second is not None
    assert tested.on_pong(payload) == [], "an old pong"
    assert tested.on_pong(second) == [key(3)]
    third = tested.ping(3.0)
    assert third is not None
    assert tested.on_pong(third) == []


def test_many_unproved_answers_make_a_ping_due() -> None:
    tested = session()
    assert [tested.sent(key(number), 1) for number in range(UNPROVED_ANSWERS)] == [False] * 1023 + [True]
    payload = tested.ping(1.0)
    assert payload is not None
    assert not tested.sent(key(0), 1), "what is being proved does not count"
    assert len(tested.on_pong(payload)) == UNPROVED_ANSWERS


@pytest.mark.parametrize(
    ("sizes", "is_due"),
    [
        ((UNPROVED_BYTES,), True),
        ((UNPROVED_BYTES - 1,), False),
        ((UNPROVED_BYTES - 1, 1), True),
        ((UNPROVED_BYTES // 2, UNPROVED_BYTES // 2 - 1), False),
        ((5 * UNPROVED_BYTES,), True),
    ],
)
def test_large_unproved_answers_make_a_ping_due(sizes: tuple[int, ...], is_due: bool) -> None:
    tested = session()
    due = [tested.sent(key(number), size) for number, size in enumerate(sizes)]
    assert due == [False] * (len(sizes) - 1) + [is_due]
    tested.ping(1.0)
    assert not tested.sent(key(9), 1)


INTERVAL_S, PROOF_S, TIMEOUT_S = 5.0, 1.0, 30.0


@pytest.mark.parametrize(
    ("now_s", "unproved", "is_under_way", "is_due", "is_silent"),
    [
        (0.9, 1, False, False, False),
        (1.0, 1, False, True, False),
        (1.0, 0, False, False, False),
        (4.9, 0, False, False, False),
        (5.0, 0, False, True, False),
        (5.0, 1, False, True, False),
        (900, 0, False, True, False),
        (5.0, 1, True, False, False),
        (29.9, 1, True, False, False),
        (30.0, 1, True, False, True),
        (30.0, 0, True, False, True),
    ],
)
def test_when_to_ping_and_when_to_give_up(
    now_s: float, unproved: int, is_under_way: bool, is_due: bool, is_silent: bool
) -> None:
    """Times count from the last ping; at first from the beginning of the session."""
    tested = Session(USER, 100.0)
    if is_under_way:
        tested.ping(100.0)
    else:
        payload = tested.ping(100.0)
        assert payload is not None
        tested.on_pong(payload)
    for number in range(unproved):
        tested.sent(key(number), 1)
    assert tested.is_ping_due(100.0 + now_s, INTERVAL_S, PROOF_S) is is_due
    assert tested.is_silent(100.0 + now_s, TIMEOUT_S) is is_silent
    assert Session(USER, 100.0).is_ping_due(100.0 + now_s, INTERVAL_S, PROOF_S) is (now_s >= INTERVAL_S)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), st.sampled_from([0, 1, 500_000, UNPROVED_BYTES])),
        st.tuples(st.just("ping"), st.just(0)),
        st.tuples(st.just("pong"), st.integers(0, 3)),  # 0 is the right one, others are late or wrong
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=60,
)


@given(STEPS)
def test_each_answer_is_proved_once_by_the_pong_behind_it(steps: list[tuple[str, int]]) -> None:
    tested, now_s = session(), 0.0
    number = 0
    unproved: list[tuple[RequestKey, int]] = []
    proving: list[RequestKey] = []
    proved: list[RequestKey] = []
    payloads: list[bytes] = []
    pinged_at_s, is_under_way = 0.0, False
    for step, argument in steps:
        if step == "sent":
            number += 1
            unproved.append((key(number), argument))
            bound_is_reached = len(unproved) >= UNPROVED_ANSWERS or sum(size for _, size in unproved) >= UNPROVED_BYTES
            assert tested.sent(key(number), argument) is bound_is_reached
        elif step == "ping":
            payload = tested.ping(now_s)
            assert (payload is None) is is_under_way
            if payload is not None:
                assert payload not in payloads
                assert len(payload) <= 125, "of a control frame"
                payloads.append(payload)
                proving, unproved = [each for each, _ in unproved], []
                pinged_at_s, is_under_way = now_s, True
        elif step == "pong":
            payload = payloads[-1 - argument] if len(payloads) > argument else b"unsolicited"
            is_right = is_under_way and payload == payloads[-1]
            expected = proving if is_right else []
            assert tested.on_pong(payload) == expected
            proved += expected
            if is_right:
                proving, is_under_way = [], False
        else:
            now_s += argument / 2
        waited_s = now_s - pinged_at_s
        is_due = not is_under_way and waited_s >= (PROOF_S if unproved else INTERVAL_S)
        assert tested.is_ping_due(now_s, INTERVAL_S, PROOF_S) is is_due
        assert tested.is_silent(now_s, TIMEOUT_S) is (is_under_way and waited_s >= TIMEOUT_S)
    assert proved == [key(at) for at in range(1, len(proved) + 1)], "in order, and each once"


@pytest.mark.parametrize("encode", [built, quick])
def test_a_connection_id_has_a_bound(encode: Callable[[Request], bytes]) -> None:
    """Kept answers and requests in flight hold it, and count it as nothing."""
    session = Session(USER, 0.0)
    longest = Request(1, b"c" * MAX_CONNECTION_ID_BYTES, b"SELECT 1")
    assert session.receive(encode(longest)) is not None
    with pytest.raises(DecodeError, match="1025 bytes") as caught:
        session.receive(encode(Request(2, b"c" * (MAX_CONNECTION_ID_BYTES + 1), b"SELECT 1")))
    assert caught.value.message_id == 2
    assert session.receive(encode(Request(2, longest.connection_id, b"SELECT 1"))) is not None
