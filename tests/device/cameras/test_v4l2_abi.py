"""The structures and numbers of V4L2, against the kernel's own header."""

import shutil
import subprocess
from pathlib import Path
from struct import Struct

import pytest

from edgekit.device.cameras import _v4l2_abi as abi

NUMBERS = {
    "CAPTURE": "V4L2_BUF_TYPE_VIDEO_CAPTURE",
    "CAPTURE_MPLANE": "V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE",
    "MMAP": "V4L2_MEMORY_MMAP",
    "FIELD_NONE": "V4L2_FIELD_NONE",
    "CAP_CAPTURE": "V4L2_CAP_VIDEO_CAPTURE",
    "CAP_CAPTURE_MPLANE": "V4L2_CAP_VIDEO_CAPTURE_MPLANE",
    "CAP_STREAMING": "V4L2_CAP_STREAMING",
    "CAP_DEVICE_CAPS": "V4L2_CAP_DEVICE_CAPS",
    "CAP_TIMEPERFRAME": "V4L2_CAP_TIMEPERFRAME",
    "PRIV_MAGIC": "V4L2_PIX_FMT_PRIV_MAGIC",
    "FLAG_ERROR": "V4L2_BUF_FLAG_ERROR",
    "TIMESTAMP_MASK": "V4L2_BUF_FLAG_TIMESTAMP_MASK",
    "TIMESTAMP_MONOTONIC": "V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC",
    "EVENT_SOURCE_CHANGE": "V4L2_EVENT_SOURCE_CHANGE",
    "DISCRETE": "V4L2_FRMSIZE_TYPE_DISCRETE",
    "CONTINUOUS": "V4L2_FRMIVAL_TYPE_CONTINUOUS",
    "STEPWISE": "V4L2_FRMSIZE_TYPE_STEPWISE",
    "CTRL_FLAG_DISABLED": "V4L2_CTRL_FLAG_DISABLED",
    "CTRL_FLAG_READ_ONLY": "V4L2_CTRL_FLAG_READ_ONLY",
    "CTRL_NEXT": "V4L2_CTRL_FLAG_NEXT_CTRL",
    "CTRL_INTEGER": "V4L2_CTRL_TYPE_INTEGER",
    "CTRL_BOOLEAN": "V4L2_CTRL_TYPE_BOOLEAN",
    "CTRL_MENU": "V4L2_CTRL_TYPE_MENU",
    "CTRL_BUTTON": "V4L2_CTRL_TYPE_BUTTON",
    "CTRL_INTEGER_MENU": "V4L2_CTRL_TYPE_INTEGER_MENU",
    "QUERYCAP": "VIDIOC_QUERYCAP",
    "ENUM_FMT": "VIDIOC_ENUM_FMT",
    "S_FMT": "VIDIOC_S_FMT",
    "REQBUFS": "VIDIOC_REQBUFS",
    "QUERYBUF": "VIDIOC_QUERYBUF",
    "QBUF": "VIDIOC_QBUF",
    "EXPBUF": "VIDIOC_EXPBUF",
    "DQBUF": "VIDIOC_DQBUF",
    "STREAMON": "VIDIOC_STREAMON",
    "STREAMOFF": "VIDIOC_STREAMOFF",
    "S_PARM": "VIDIOC_S_PARM",
    "S_CTRL": "VIDIOC_S_CTRL",
    "QUERY_CTRL": "VIDIOC_QUERYCTRL",
    "QUERY_MENU": "VIDIOC_QUERYMENU",
    "ENUM_FRAMESIZES": "VIDIOC_ENUM_FRAMESIZES",
    "ENUM_FRAMEINTERVALS": "VIDIOC_ENUM_FRAMEINTERVALS",
    "DQEVENT": "VIDIOC_DQEVENT",
    "SUBSCRIBE_EVENT": "VIDIOC_SUBSCRIBE_EVENT",
}
# The members in the order in which each of ours unpacks them; all but the last of a partial one.
MEMBERS = {
    "CAPABILITY": ("v4l2_capability", "driver card bus_info version capabilities device_caps"),
    "FMTDESC": ("v4l2_fmtdesc", "index type flags description pixelformat"),
    "FRMSIZE": (
        "v4l2_frmsizeenum",
        "index pixel_format type stepwise.min_width stepwise.max_width stepwise.step_width "
        "stepwise.min_height stepwise.max_height stepwise.step_height",
    ),
    "FRMIVAL": (
        "v4l2_frmivalenum",
        "index pixel_format width height type stepwise.min.numerator stepwise.min.denominator "
        "stepwise.max.numerator stepwise.max.denominator stepwise.step.numerator "
        "stepwise.step.denominator",
    ),
    "STREAMPARM": (
        "v4l2_streamparm",
        "type parm.capture.capability parm.capture.capturemode "
        "parm.capture.timeperframe.numerator parm.capture.timeperframe.denominator",
    ),
    "REQUESTBUFFERS": ("v4l2_requestbuffers", "count type memory capabilities flags"),
    "BUFFER": (
        "v4l2_buffer",
        "index type bytesused flags field timestamp.tv_sec timestamp.tv_usec sequence memory "
        "m.planes length reserved2",
    ),
    "DEQUEUED": (
        "v4l2_buffer", "index bytesused flags timestamp.tv_sec timestamp.tv_usec sequence"
    ),
    "PLANE": ("v4l2_plane", "bytesused length m.userptr data_offset"),
    "EXPORTBUFFER": ("v4l2_exportbuffer", "type index plane flags fd"),
    "EVENT": ("v4l2_event", "type u.src_change.changes"),
    "EVENT_SUBSCRIPTION": ("v4l2_event_subscription", "type"),
    "QUERYCTRL": (
        "v4l2_queryctrl", "id type name minimum maximum step default_value flags"
    ),
    "QUERYMENU": ("v4l2_querymenu", "id index name"),
    "CONTROL": ("v4l2_control", "id value"),
    "PIX": (
        "v4l2_pix_format",
        "width height pixelformat field bytesperline sizeimage colorspace priv flags ycbcr_enc "
        "quantization xfer_func",
    ),
    "PIX_MPLANE": (
        "v4l2_pix_format_mplane",
        "width height pixelformat field colorspace plane_fmt[0].sizeimage "
        "plane_fmt[0].bytesperline num_planes flags ycbcr_enc quantization",
    ),
}  # fmt: skip
PARTIAL = {"DEQUEUED", "PIX_MPLANE"}
"""Those that end before the structure does."""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler makes of the header: numbers, offsets and sizes."""
    compiler, header = shutil.which("cc"), Path("/usr/include/linux/videodev2.h")
    if not (compiler and header.is_file()):
        pytest.skip("needs a C compiler (cc) and <linux/videodev2.h>: apt install gcc libc6-dev")
    wanted = {constant: f"(unsigned){constant}" for constant in NUMBERS.values()}
    for structure, members in MEMBERS.values():
        wanted[structure] = f"sizeof(struct {structure})"
        for member in members.split():
            wanted[f"{structure}.{member}"] = f"offsetof(struct {structure}, {member})"
            name = f"((struct {structure} *)0)->{member}"
            wanted[f"{structure}.{member} size"] = f"sizeof({name})"
    wanted["format"] = "sizeof(struct v4l2_format)"
    wanted["format union"] = "offsetof(struct v4l2_format, fmt)"
    lines = "".join(f'printf("%s=%zu\\n", "{k}", (size_t){v});' for k, v in wanted.items())
    folder = tmp_path_factory.mktemp("abi")
    (folder / "abi.c").write_text(
        "#include <linux/videodev2.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f"int main(void) {{ {lines} return 0; }}\n"
    )
    subprocess.run([compiler, "-o", folder / "abi", folder / "abi.c"], check=True)
    said = subprocess.run([folder / "abi"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split("=") for line in said.splitlines())}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number(name: str, kernel: dict[str, int]) -> None:
    assert getattr(abi, name) == kernel[NUMBERS[name]]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_structure(name: str, kernel: dict[str, int]) -> None:
    ours, (structure, members) = getattr(abi, name), MEMBERS[name]
    for number, member in enumerate(members.split()):
        offset, size = (kernel[f"{structure}.{member}{what}"] for what in ("", " size"))
        assert (offset, size) == _place(ours, number), member
    if name not in PARTIAL:
        assert ours.size == kernel[structure]


def _place(ours: Struct, number: int) -> tuple[int, int]:
    """Where a `Struct` reads its member `number`: (offset, size), by looking at what changes."""
    zero = ours.unpack(bytes(ours.size))
    touched = [
        at
        for at in range(ours.size)
        if ours.unpack(bytes(n == at for n in range(ours.size)))[number] != zero[number]
    ]
    assert touched == list(range(touched[0], touched[-1] + 1))
    return touched[0], len(touched)


def test_the_format(kernel: dict[str, int]) -> None:
    assert (kernel["format"], kernel["format union"]) == (abi.FORMAT_SIZE, abi.FORMAT_UNION)


def test_every_number_of_ours_is_compared() -> None:
    ours = {name for name, value in vars(abi).items() if name.isupper() and isinstance(value, int)}
    assert ours == {*NUMBERS, "FORMAT_SIZE", "FORMAT_UNION"}
    structures = {name for name, value in vars(abi).items() if isinstance(value, Struct)}
    assert structures == {*MEMBERS, "FORMAT_TYPE"}
