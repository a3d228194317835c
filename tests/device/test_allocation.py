"""After its warm-up the loop allocates nothing that stays, and touches no new page."""

import gc
import resource
import tracemalloc
from contextlib import closing

import pytest

from edgekit.bundle import Bundle
from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera

WARM, MEASURED = 300, 1000
SOURCE = f"synthetic://320x240@30?pace=fast&frames={WARM + MEASURED + 1}&format="


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("of", ["nv12", "i420", "yuyv", "bgr", "grey"])
def test_nothing_stays_and_no_page_is_new(bundle: Bundle, of: str, overlap: bool) -> None:
    with (
        closing(open_session(bundle)) as session,
        closing(open_camera(SOURCE + of)) as camera,
        Loop(bundle, session, camera, overlap=overlap) as loop,
    ):
        results = iter(loop)
        tracemalloc.start()
        try:
            for _ in range(WARM):
                next(results)
            before, faults = _traced(), _faults()
            for _ in range(MEASURED):
                next(results)
            new_faults, after = _faults() - faults, _traced()
        finally:
            tracemalloc.stop()
    # What is on its way between threads differs by a few kilobytes; a float a frame would be 24.
    assert after - before < 16 * MEASURED
    assert new_faults < MEASURED // 10


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _traced() -> int:
    """Bytes of Python's that are in use; without what it keeps to use again."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
