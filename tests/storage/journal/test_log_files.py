"""What is a torn end of a log, and what is damage (`storage.journal.log_files`): on logs made by hand."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.journal import rows
from storage.journal.errors import JournalError
from storage.journal.log_files import DamageError, crc32c, end_of_log, highest_mark, prepare

BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def fragment(data: bytes, type_: int) -> bytes:
    crc = crc32c(bytes([type_]) + data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<IHB", masked, len(data), type_) + data


def a_log(payloads: list[bytes], first: int = 1) -> tuple[bytes, list[int]]:
    """A log with a record of two operations for each payload, and where each ends."""
    log, ends = b"", []
    for number, payload in enumerate(payloads):
        record = struct.pack("<QI", first + 2 * number, 2) + payload
        is_first = True
        while record or is_first:
            left = BLOCK - len(log) % BLOCK
            if left < 7:
                log += bytes(left)
                continue
            piece, record = record[: left - 7], record[left - 7 :]
            log += fragment(piece, (FIRST if record else FULL) if is_first else (MIDDLE if record else LAST))
            is_first = False
        ends.append(len(log))
    return log, ends


SMALL = [bytes([65 + number]) * 50 for number in range(20)]
LARGE = [b"x" * 30_000, b"y" * 100_000, b"z" * 10]


def test_the_crc_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("payloads", [SMALL, LARGE, [], [b"ends in zeros" + bytes(20)]])
def test_a_whole_log_is_kept_whole(payloads: list[bytes]) -> None:
    log, _ = a_log(payloads)
    assert end_of_log(log, None) == (len(log), 1 + 2 * len(payloads) if payloads else None)


def test_a_log_goes_on_where_the_one_before_ended() -> None:
    log, _ = a_log(SMALL, first=101)
    assert end_of_log(log, 101).next_sequence == 141
    with pytest.raises(DamageError):
        end_of_log(log, 99)


@pytest.mark.parametrize("payloads", [SMALL, LARGE])
def test_a_log_may_be_cut_anywhere(payloads: list[bytes]) -> None:
    log, ends = a_log(payloads)
    for cut in range(0, len(log), 1 if len(log) < BLOCK else 997):
        whole = sum(end <= cut for end in ends)
        assert end_of_log(log[:cut], 1).next_sequence == 1 + 2 * whole


@pytest.mark.parametrize("payloads", [SMALL, LARGE])
def test_zeros_from_anywhere_to_the_end_are_cut_off_with_what_they_tore(payloads: list[bytes]) -> None:
    log, ends = a_log(payloads)
    for cut in range(0, len(log), 1 if len(log) < BLOCK else 997):
        whole = [end for end in ends if end <= cut]
        zeroed = log[:cut] + bytes(len(log) - cut + 70_000)
        end = end_of_log(zeroed, 1)
        assert end.next_sequence == 1 + 2 * len(whole)
        assert end_of_log(zeroed[: end.keep_bytes], 1).next_sequence == end.next_sequence
        assert (whole[-1] if whole else 0) <= end.keep_bytes <= cut


def test_regression_zeros_from_within_the_header_of_a_later_fragment_tear_its_record() -> None:
    log, ends = a_log(LARGE)
    for cut in (block * BLOCK + torn for block in (1, 2, 3) for torn in range(5)):
        for zeros in (1, 6, 7, 500):
            end = end_of_log(log[:cut] + bytes(zeros), 1)
            whole = [end for end in ends if end <= cut]
            assert end.next_sequence == 1 + 2 * len(whole)
            if cut % BLOCK + zeros >= 7:  # RocksDB would see a header without a kind inside of a record, and refuse it
                assert end.keep_bytes == max(whole, default=0)


def damages(log: bytes, last_start: int) -> Iterator[bytes]:
    """The log with each kind of damage that RocksDB takes for an end, at each record but the last."""
    position = 0
    while position < last_start:
        for header in (bytes(7), log[position : position + 4] + b"\xff\xff" + log[position + 6 : position + 7]):
            yield log[:position] + header + log[position + 7 :]
        position += 7 + struct.unpack_from("<H", log, position + 4)[0]


def test_regression_records_behind_a_header_of_zeros_or_a_length_past_the_end_are_not_dropped() -> None:
    log, ends = a_log(SMALL)
    damaged = list(damages(log, ends[-2]))
    assert len(damaged) == 2 * (len(SMALL) - 1)
    for each in damaged:
        with pytest.raises(DamageError, match="is damaged at byte"):
            end_of_log(each, 1)


def test_regression_a_block_of_zeros_between_others_is_no_end() -> None:
    payload = b"p" * (BLOCK - 7 - 12)  # each record fills a block
    log, _ = a_log([payload] * 4)
    for block in range(3):
        hole = log[: block * BLOCK] + bytes(BLOCK) + log[(block + 1) * BLOCK :]
        with pytest.raises(DamageError):
            end_of_log(hole, 1)


@pytest.mark.parametrize("start", [100, 138], ids=["within a record", "between two"])
def test_regression_a_hole_with_no_whole_record_behind_it_is_damage(start: int) -> None:
    log, ends = a_log(SMALL[:4])
    assert ends[1] == 138
    hole = log[:start] + bytes(len(log) - 20 - start) + log[-20:]
    with pytest.raises(DamageError) as damage:
        end_of_log(hole, 1, verify=True)
    assert damage.value.keep_bytes == max(end for end in ends if end <= start)


@pytest.mark.parametrize("kind", [5, 7, 11, 131])
def test_regression_a_fragment_of_no_known_kind_is_refused_ahead_of_rocksdb_which_hangs_on_it(kind: int) -> None:
    log, _ = a_log(LARGE)
    damaged = log[: BLOCK + 6] + bytes([kind]) + log[BLOCK + 7 :]
    assert log[BLOCK + 6] in {MIDDLE, LAST}
    with pytest.raises(DamageError, match="is no kind of record"):
        end_of_log(damaged, 1)


def test_records_that_are_missing_are_missed() -> None:
    log, ends = a_log(SMALL)
    with pytest.raises(DamageError):
        end_of_log(log[: ends[4]] + log[ends[7] :], 1)


def test_a_damaged_length_of_the_last_record_cannot_be_told_from_a_torn_one() -> None:
    log, ends = a_log(SMALL)
    damaged = log[: ends[-2]] + log[ends[-2] : ends[-2] + 4] + b"\xff\xff" + log[ends[-2] + 6 :]
    assert end_of_log(damaged, 1).next_sequence == 1 + 2 * (len(SMALL) - 1)


def test_regression_a_text_that_looks_like_a_mark_where_a_block_begins_is_none(tmp_path: Path) -> None:
    """Who adds an item decides what stands there, and must not decide what counts as synced."""
    mark = b"\1\7" + rows.SYNCED_KEY + b"\x10" + struct.pack(">QQ", 4, 99)
    for payload, highest in ((mark + b"rest", (4, 99)), (bytes(BLOCK - 7) + mark + b"rest", None)):
        log, _ = a_log([payload])
        (tmp_path / "000004.log").write_bytes(log)
        assert highest_mark([tmp_path / "000004.log"]) == highest


def test_regression_the_log_of_a_running_process_is_left_alone(tmp_path: Path) -> None:
    log, ends = a_log(SMALL)
    torn = log[: ends[-2] + 30] + bytes(40)
    (tmp_path / "000004.log").write_bytes(torn)
    (tmp_path / "LOCK").touch()
    hold = (
        "import fcntl, sys; lock = open(sys.argv[1], 'r+b'); fcntl.lockf(lock, fcntl.LOCK_EX);"
        " print(flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "LOCK")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(JournalError, match="another process has it open"):
            prepare(tmp_path)
        assert (tmp_path / "000004.log").read_bytes() == torn
        holder.kill()
    prepare(tmp_path)
    assert (tmp_path / "000004.log").read_bytes() == log[: ends[-2]]
