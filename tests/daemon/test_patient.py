"""Reading on by position where blocks have changed on the disk."""

from pathlib import Path

import pytest

from flc_udp.daemon import patient
from flc_udp.daemon.patient import PATIENCE_S, PatientReader
from flc_udp.model.errors import StoreFailed
from flc_udp.store.log import Log
from tests.store.conftest import Authors


@pytest.mark.parametrize("room", [None, "ops"])
@pytest.mark.parametrize("rotten", [(3,), (1,), (9,), tuple(range(2, 9)), tuple(range(1, 10))])
def test_a_block_is_waited_for_and_then_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str | None, rotten: tuple[int, ...]
) -> None:
    """What is sound comes in order, before and after, and a healed one is not missed."""
    now_s = [0.0]
    monkeypatch.setattr(patient.time, "monotonic", lambda: now_s[0])
    log = Log.open(tmp_path / "flc.db")
    said = Authors()
    log.append([said.say("ann", room="ops") for _ in range(9)])
    places = ", ".join(map(str, rotten))
    change = f"UPDATE block SET encoded = x'00' WHERE position IN ({places})"  # noqa: S608
    log.connection.execute(change)
    reader = log.reader()
    reads_on = PatientReader(reader)

    before = rotten[0] - 1
    if before:
        assert [at for at, _ in reads_on.after(0, room, 9)] == list(range(1, rotten[0]))
    for waited_s in (0.0, PATIENCE_S - 1):
        now_s[0] = waited_s
        with pytest.raises(StoreFailed, match=f"position {rotten[0]} has changed"):
            reads_on.after(before, room, 2)
    now_s[0] = PATIENCE_S
    seen, position = list[int](), before
    while page := reads_on.after(position, room, 2):
        seen += [at for at, _ in page]
        position = seen[-1]
    assert seen == [at for at in range(rotten[0], 10) if at not in rotten]
    now_s[0] = 2 * PATIENCE_S
    assert reads_on.after(9, room, 2) == []
    with pytest.raises(StoreFailed):  # The next one is waited for anew.
        reads_on.after(before, room, 2)
    reader.close()
    log.close()
