"""A source or an output as it may be shown: without user names, passwords and tokens."""

import re


def shown(text: str) -> str:
    """`text` for messages, logs and pages.

    `rtsp://admin:secret@camera/live?token=x` becomes `rtsp://camera/live?...`: some cameras take
    their password in the query. A path or a device stays as it is.
    """
    hidden = re.sub(r"^(\w[\w+.-]*://)[^/?#]*@", r"\1", text)
    if re.match(r"(rtsps?|https?)://", hidden):
        hidden = re.sub(r"\?.*$", "?...", hidden, flags=re.DOTALL)
    return hidden
