"""The kernel's V4L2 structures and request numbers on 64-bit Linux, as bytes.

From `<linux/videodev2.h>`, which the tests compile and compare. The numbers are those of x86-64
and 64-bit Arm; a 32-bit system has other sizes.
"""

from struct import Struct

from edgekit.device.picture import PixelFormat

CAPTURE, CAPTURE_MPLANE = 1, 9
"""Buffer types: planes in one piece of memory, or each in its own."""
MMAP = 1
FIELD_NONE = 1

CAP_CAPTURE, CAP_CAPTURE_MPLANE = 0x00000001, 0x00001000
CAP_STREAMING, CAP_DEVICE_CAPS = 0x04000000, 0x80000000
CAP_TIMEPERFRAME = 0x1000
PRIV_MAGIC = 0xFEEDCAFE

FLAG_ERROR = 0x0040
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0xE000, 0x2000

EVENT_SOURCE_CHANGE = 5

DISCRETE, CONTINUOUS, STEPWISE = 1, 2, 3

CTRL_FLAG_DISABLED, CTRL_FLAG_READ_ONLY = 0x0001, 0x0004
CTRL_NEXT = 0x80000000
CTRL_INTEGER, CTRL_BOOLEAN, CTRL_MENU, CTRL_BUTTON, CTRL_INTEGER_MENU = 1, 2, 3, 4, 9

CAPABILITY = Struct("<16s32s32s3I12x")
"""driver, card, bus_info, version, capabilities, device_caps"""
FMTDESC = Struct("<3I32sI16x")
"""index, type, flags, description, pixelformat"""
FORMAT_SIZE = 208
FORMAT_TYPE = Struct("<I")
PIX = Struct("<12I")
"""width, height, pixelformat, field, bytesperline, sizeimage, colorspace, priv, flags, ycbcr_enc,
quantization, xfer_func; at `FORMAT_UNION`"""
PIX_MPLANE = Struct("<5I2I152x4B")
"""width, height, pixelformat, field, colorspace, then of the first plane sizeimage and
bytesperline, then num_planes, flags, ycbcr_enc, quantization; at `FORMAT_UNION`"""
FORMAT_UNION = 8
FRMSIZE = Struct("<3I6I8x")
"""index, pixel_format, type; width, height, or min, max and step of both"""
FRMIVAL = Struct("<5I6I8x")
"""index, pixel_format, width, height, type; numerator and denominator of one, or of min, max, step
"""
STREAMPARM = Struct("<5I184x")
"""type; of a capture: capability, capturemode, numerator, denominator"""
REQUESTBUFFERS = Struct("<4IB3x")
"""count, type, memory, capabilities, flags"""
BUFFER = Struct("<5I4x2q16x2IQ2I8x")
"""index, type, bytesused, flags, field, seconds, microseconds, sequence, memory, offset (or the
address of the planes), length, reserved2"""
DEQUEUED = Struct("<I4x2I8x2q16xI")
"""The beginning of the same: index, bytesused, flags, seconds, microseconds, sequence"""
PLANE = Struct("<2IQI44x")
"""bytesused, length, offset, data_offset"""
EXPORTBUFFER = Struct("<4Ii44x")
"""type, index, plane, flags, fd"""
EVENT = Struct("<I4xI124x")
"""type, and of a source change, what changed"""
EVENT_SUBSCRIPTION = Struct("<I28x")
"""type"""
QUERYCTRL = Struct("<2I32s4iI8x")
"""id, type, name, minimum, maximum, step, default, flags"""
QUERYMENU = Struct("<2I32s4x")
"""id, index, name"""
CONTROL = Struct("<Ii")
"""id, value"""


def _request(direction: int, number: int, size: int) -> int:
    """`_IOC(direction, 'V', number, size)`: 1 writes to the kernel, 2 reads from it, 3 both."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


QUERYCAP = _request(2, 0, CAPABILITY.size)
ENUM_FMT = _request(3, 2, FMTDESC.size)
S_FMT = _request(3, 5, FORMAT_SIZE)
REQBUFS = _request(3, 8, REQUESTBUFFERS.size)
QUERYBUF = _request(3, 9, BUFFER.size)
QBUF = _request(3, 15, BUFFER.size)
EXPBUF = _request(3, 16, EXPORTBUFFER.size)
DQBUF = _request(3, 17, BUFFER.size)
STREAMON = _request(1, 18, 4)
STREAMOFF = _request(1, 19, 4)
S_PARM = _request(3, 22, STREAMPARM.size)
S_CTRL = _request(3, 28, CONTROL.size)
QUERY_CTRL = _request(3, 36, QUERYCTRL.size)
QUERY_MENU = _request(3, 37, QUERYMENU.size)
ENUM_FRAMESIZES = _request(3, 74, FRMSIZE.size)
ENUM_FRAMEINTERVALS = _request(3, 75, FRMIVAL.size)
DQEVENT = _request(2, 89, EVENT.size)
SUBSCRIBE_EVENT = _request(1, 90, EVENT_SUBSCRIPTION.size)


def fourcc(code: str) -> int:
    """The kernel's number of a pixel format's four letters."""
    return int.from_bytes(code.encode(), "little")


def code_of(number: int) -> str:
    """The four letters of a pixel format's number."""
    return (number & 0x7FFFFFFF).to_bytes(4, "little").decode("latin-1").strip()


FORMATS: dict[int, PixelFormat] = {
    fourcc("NV12"): "NV12",
    fourcc("YUYV"): "YUYV",
    fourcc("YU12"): "I420",
    fourcc("BGR3"): "BGR",
    fourcc("RGB3"): "RGB",
    fourcc("MJPG"): "MJPEG",
    fourcc("JPEG"): "MJPEG",
    fourcc("GREY"): "GREY",
}
"""What can be read, and how `Picture` calls it; the first costs least to read."""
