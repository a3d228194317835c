"""What a V4L2 camera does when its driver misbehaves, on a virtual one."""

import errno
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from edgekit.device.cameras.v4l2 import V4l2
from edgekit.device.frame import Frame
from edgekit.device.uri import open_raw
from edgekit.errors import SourceUnavailable
from tests.virtual_camera import VirtualCamera

MODES = "NV12:64x48@100"
QUICK = "v4l2://0?fps=100&deadline=0.3"


def opened(text: str = QUICK) -> V4l2:
    camera = open_raw(text)
    assert isinstance(camera, V4l2)
    return camera


def read_until(camera: V4l2, enough: Callable[[Frame], bool]) -> list[int]:
    """The numbers of the frames read up to the first that is enough."""
    seen = []
    while True:
        with camera.read() as frame:
            seen.append(frame.sequence)
            if enough(frame):
                return seen


@pytest.mark.virtual_camera
@pytest.mark.parametrize("fault", ["error", "short", "empty"])
def test_damaged_frames_are_passed_over(fault: str, virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes=MODES, **{fault: "0,3-5"})
    with closing(opened()) as camera:
        seen = read_until(camera, lambda frame: frame.sequence > 8)
        assert not {0, 3, 4, 5} & {*seen}
        assert camera.faults == 4


@pytest.mark.virtual_camera(modes=MODES, error="4-")
def test_only_damaged_frames_are_the_end() -> None:
    with closing(opened("v4l2://0?fps=100&deadline=3")) as camera:
        camera.read().release()
        with pytest.raises(SourceUnavailable, match="gave 30 damaged frames in a row"):
            read_until(camera, lambda _: False)


@pytest.mark.virtual_camera(modes=MODES, error="4-")
def test_damaged_frames_do_not_make_the_wait_longer() -> None:
    with closing(opened("v4l2://0?fps=100&deadline=0.15")) as camera:
        camera.read().release()
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"gave nothing for 0\.15 s"):
            read_until(camera, lambda _: False)
        assert time.monotonic() - begun < 2


@pytest.mark.virtual_camera(modes=MODES, stall="5")
def test_a_stall_ends_at_the_deadline() -> None:
    with closing(opened()) as camera:
        read_until(camera, lambda frame: frame.sequence >= 4)
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"gave nothing for 0\.3 s after frame 4"):
            camera.read()
        assert 0.25 < time.monotonic() - begun < 2


@pytest.mark.virtual_camera
def test_a_stall_that_ends_in_time_is_none(virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes=MODES, stall="5-")
    with closing(opened("v4l2://0?fps=100&deadline=5")) as camera:
        read_until(camera, lambda frame: frame.sequence >= 4)
        virtual_camera.set(modes=MODES)
        with camera.read() as frame:
            assert frame.sequence == 5


@pytest.mark.virtual_camera(modes=MODES, late=0.6)
def test_a_camera_that_wakes_up_slowly() -> None:
    with closing(opened()) as camera, camera.read() as frame:
        assert frame.sequence == 0


@pytest.mark.virtual_camera(modes=MODES, unplug="5")
def test_an_unplugged_camera() -> None:
    with closing(opened()) as camera:
        with pytest.raises(SourceUnavailable, match="Virtual camera.* went away.*check its cable"):
            read_until(camera, lambda _: False)
        with pytest.raises(SourceUnavailable, match="went away"):
            camera.read()


@pytest.mark.virtual_camera
def test_a_frame_is_released_after_the_camera_was_unplugged(virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes=MODES)
    with closing(opened()) as camera:
        frame = camera.read()
        virtual_camera.set(modes=MODES, present=0)
        frame.release()
        with pytest.raises(SourceUnavailable, match="went away"):
            camera.read()


@pytest.mark.virtual_camera
def test_a_camera_is_found_again_under_another_number(virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes=MODES, cameras=2, card__0="One", card__1="Two")
    camera = opened()
    again = camera.again
    camera.read().release()
    # The one moves to /dev/video3, and another camera takes its place.
    virtual_camera.set(
        modes=MODES, cameras=2, card__0="One", card__1="Two", number__0=3, number__1=0
    )
    with pytest.raises(SourceUnavailable, match="went away"):
        read_until(camera, lambda _: False)
    camera.close()
    with closing(opened(again)) as camera:
        assert (camera.identity.path, camera.identity.card) == ("/dev/video3", "One")
        assert camera.deadline_s == 5.0
        camera.read().release()
        assert camera.again == again
    virtual_camera.set(modes=MODES, card="Two", number=1)
    with pytest.raises(SourceUnavailable, match="no camera /dev/video0 called 'One'"):
        open_raw(again)


@pytest.mark.virtual_camera
def test_two_cameras_of_one_name_are_told_apart_by_their_plugs(
    virtual_camera: VirtualCamera,
) -> None:
    virtual_camera.set(cameras=2)
    for number in (0, 1):
        with closing(opened(f"v4l2://{number}")) as camera:
            again = camera.again
            bus = camera.identity.bus
        virtual_camera.set(cameras=2, number__0=5, number__1=6)
        with closing(opened(again)) as camera:
            assert (camera.identity.path, camera.identity.bus) == (f"/dev/video{number + 5}", bus)
        virtual_camera.set(cameras=2)


@pytest.mark.virtual_camera(modes=MODES, eio="5")
def test_an_error_of_the_driver() -> None:
    with (
        closing(opened()) as camera,
        pytest.raises(SourceUnavailable, match=r"went away \(Input/output error\)"),
    ):
        read_until(camera, lambda _: False)


@pytest.mark.virtual_camera
@pytest.mark.parametrize("eventless", ["", "1"])
def test_another_format_while_it_runs(eventless: str, virtual_camera: VirtualCamera) -> None:
    virtual_camera.set(modes=MODES, eventless=eventless)
    with closing(opened()) as camera:
        camera.read().release()
        virtual_camera.set(modes="NV12:32x32@100", eventless=eventless)
        said = "gave nothing for" if eventless else "changed its format"
        with pytest.raises(SourceUnavailable, match=said):
            read_until(camera, lambda _: False)
    with closing(opened()) as camera, camera.read() as frame:
        assert (frame.picture.width, frame.picture.height) == (32, 32)


@pytest.mark.virtual_camera(modes=MODES, back="5-6")
def test_a_timestamp_never_goes_back() -> None:
    with closing(opened()) as camera:
        stamps = list[tuple[int, float]]()
        while len(stamps) < 10:
            with camera.read() as frame:
                stamps.append((frame.captured_ns, frame.time_s))
        assert stamps == sorted(stamps)
        assert stamps[0][1] == 0.0
        assert camera.backwards == 2


@pytest.mark.virtual_camera(modes=MODES, open_error=errno.EBUSY)
def test_an_error_at_opening_leaves_nothing_open(virtual_camera: VirtualCamera) -> None:
    with pytest.raises(SourceUnavailable, match="busy"):
        opened()
    virtual_camera.set(modes=MODES)
    with closing(opened()) as camera:
        camera.read().release()
