"""A source or an output as it may be shown: without user names, passwords and tokens."""

import re

_NETWORK = r"^((?:rtsps?|https?|tcp|udp)://)"


def shown(text: str) -> str:
    """`text` for messages, logs and pages.

    `rtsp://admin:secret@camera/live?token=x` becomes `rtsp://camera/live?...`: some cameras take
    their password in the query. Of a GStreamer pipeline only the first element is shown, as
    `gst://rtspsrc ...`. Others, as `synthetic://640x480@30`, stay as they are.
    """
    if text.startswith("gst://"):
        return re.sub(r"(%20|\s).*$", " ...", text, flags=re.DOTALL)
    if not re.match(_NETWORK, text):
        return text
    return re.sub(r"\?.*$", "?...", re.sub(_NETWORK + r"[^/?#]*@", r"\1", text), flags=re.DOTALL)
