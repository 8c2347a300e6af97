"""The spool on a disk that runs full: it takes no more in time, so that what it has can still be taken out."""

from pathlib import Path

import pytest

from receiver.outlet import Outlet
from receiver.spool import Spool, file_of
from schemas.errors import StoreError
from tests.chaos.disk import small_disk
from tests.chaos.scenario import NotRun
from tests.test_spool import settings
from tests.test_writer import entry

NOW = 1_800_000_000.0


@pytest.mark.parametrize("mebibytes", [20, 64])
def test_a_spool_on_a_full_disk_can_be_drained(tmp_path: Path, mebibytes: int) -> None:
    """The last megabytes are left free: what waits is taken out without anybody making room, and then it takes more."""
    wanted = settings(tmp_path / "disk" / "spool", size="1GiB")
    try:
        with small_disk(tmp_path / "disk", mebibytes):
            spool, outlet = Spool(wanted), Outlet(file_of(wanted))
            with pytest.raises(StoreError, match="the disk has less than 16 MiB left, which draining needs"):
                _put_all(spool, 3000)
            taken = spool.fill().rows
            with pytest.raises(StoreError, match="make room"):
                spool.refuse_if_full(spool.fill(), NOW)
            outlet.raise_fence()
            while rows := outlet.first(256, 2**22):
                outlet.done(rows[-1].sequence, "5-0")
            left = spool.fill().rows
            outlet.hold(1, 1)
            outlet.finish()
            outlet.tidy()
            again = _put(spool, 3000)
            spool.close()
            outlet.close()
    except NotRun as error:
        pytest.skip(str(error))

    assert taken > 20 * (mebibytes - 18)
    assert left == 0
    assert again


def _put(spool: Spool, number: int) -> bool:
    return spool.put([entry(number, 30_000)], NOW, tried_after=None, needed=True)


def _put_all(spool: Spool, count: int) -> None:
    for number in range(count):
        _put(spool, number)
