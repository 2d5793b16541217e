from __future__ import annotations

from supereziod.leases.notices import LedgerNotice
from supereziod.leases.unreturned import UnreturnedVram

GIB = 1 << 30


def missing(amount: int, lease: str = "a", uuid: str = "GPU-a") -> LedgerNotice:
    return LedgerNotice(
        kind="unreturned",
        uuid=uuid,
        lease=lease,
        message=f"{amount}.0 GiB did not come back",
        amount_bytes=amount * GIB,
    )


NOTICE = missing(4)


def test_an_alarm_stands_until_three_quarters_of_the_vram_are_back() -> None:
    vram = UnreturnedVram()
    vram.note([NOTICE], {"GPU-a": 5 * GIB})
    assert vram.messages({"GPU-a": 5 * GIB}) == {"GPU-a": "4.0 GiB did not come back"}
    assert vram.messages({"GPU-a": 2 * GIB + 1})
    assert vram.messages({"GPU-a": 2 * GIB}) == {}
    assert vram.messages({"GPU-a": 5 * GIB}) == {}, "what comes later is somebody else's"


def test_a_gpu_that_cannot_be_read_keeps_its_alarm() -> None:
    vram = UnreturnedVram()
    vram.note([NOTICE], {"GPU-a": 4 * GIB})
    assert vram.messages({})


def test_a_second_alarm_on_a_gpu_leaves_the_first_standing() -> None:
    vram = UnreturnedVram()
    vram.note([NOTICE], {"GPU-a": 5 * GIB})
    vram.note([missing(2, "b"), missing(1, "b", "GPU-b")], {"GPU-a": 7 * GIB, "GPU-b": GIB})
    both = {"GPU-a": 7 * GIB, "GPU-b": 0}
    assert vram.messages(both) == {"GPU-a": "4.0 GiB did not come back; 2.0 GiB did not come back"}
    assert vram.messages({"GPU-a": 5 * GIB}) == {"GPU-a": "4.0 GiB did not come back"}
    assert vram.messages({"GPU-a": GIB}) == {}


def test_of_two_alarms_in_one_pass_the_smaller_stands_when_the_larger_is_back() -> None:
    vram = UnreturnedVram()
    vram.note([missing(2, "b"), NOTICE], {"GPU-a": 7 * GIB})
    assert vram.messages({"GPU-a": 3 * GIB}) == {"GPU-a": "2.0 GiB did not come back"}
    assert vram.messages({"GPU-a": GIB}) == {}
