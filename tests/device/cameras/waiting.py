"""A camera that is closed while another thread waits in its `read`."""

import threading

from edgekit.device.frame import Camera, Frame


def closed_while_reading(camera: Camera) -> list[Frame | None]:
    """What the waiting read then gives; it waits until the camera is closed."""
    answers: list[Frame | None] = []
    reader = threading.Thread(target=lambda: answers.append(camera.read()))
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    camera.close()
    reader.join(5)
    return answers
