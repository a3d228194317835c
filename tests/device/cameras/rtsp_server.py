"""An RTSP server of a GStreamer pipeline, for the tests: a process of its own, told what to show.

    python3 rtsp_server.py PIPELINE [USER PASSWORD]

The pipeline ends in a payloader named pay0. Prints the port on a line, then serves /live.
"""

import sys
from typing import Any

import gi  # type: ignore[import-untyped, import-not-found, unused-ignore]


def main() -> None:
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import (  # type: ignore[import-untyped, import-not-found, unused-ignore]
        GLib,
        Gst,
        GstRtspServer,
    )

    Gst.init(None)
    server: Any = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {sys.argv[1]} )")
    factory.set_shared(True)
    if len(sys.argv) > 2:
        lock = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "guest")
        lock.add_basic(GstRtspServer.RTSPAuth.make_basic(*sys.argv[2:4]), token)
        server.set_auth(lock)
        factory.add_role_from_structure(
            Gst.Structure.new_from_string(
                "guest, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
            )
        )
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
