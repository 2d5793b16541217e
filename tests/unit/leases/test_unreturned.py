from __future__ import annotations

from supereziod.leases.notices import LedgerNotice
from supereziod.leases.unreturned import UnreturnedVram

GIB = 1 << 30
NOTICE = LedgerNotice(
    kind="unreturned", uuid="GPU-a", message="4.0 GiB did not come back", amount_bytes=4 * GIB
)


def test_an_alarm_stands_until_three_quarters_of_the_vram_are_back() -> None:
    vram = UnreturnedVram()
    vram.note(NOTICE, foreign_bytes=5 * GIB)
    assert vram.messages({"GPU-a": 5 * GIB}) == {"GPU-a": "4.0 GiB did not come back"}
    assert vram.messages({"GPU-a": 2 * GIB + 1})
    assert vram.messages({"GPU-a": 2 * GIB}) == {}
    assert vram.messages({"GPU-a": 5 * GIB}) == {}, "what comes later is somebody else's"


def test_a_gpu_that_cannot_be_read_keeps_its_alarm() -> None:
    vram = UnreturnedVram()
    vram.note(NOTICE, foreign_bytes=4 * GIB)
    assert vram.messages({})
