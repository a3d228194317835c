"""Take an efficient vision network from training to a proven artifact, and run it on a camera.

What a device needs, in one place. The names are loaded when first used, so that `import edgekit`
costs next to nothing and loads no framework:

    bundle = edgekit.read("mobilenet_v2-raspberry-pi-int8")  # every byte is verified first
    session = edgekit.open_session(bundle)
    pixels = edgekit.read_image("cat.jpg")                   # (H, W, 3) uint8 RGB

    def fill(inputs):                                        # the session's own memory, lent
        edgekit.prepare(pixels, "RGB", bundle.manifest.image, inputs["image"][0])

    logits = session.run(fill)["logits"][0]
    edgekit.top_k(logits, bundle.labels, 3)

Everything that edgekit raises on purpose is an `EdgekitError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.bundle import Bundle, read
    from edgekit.device.decode import Prediction, top_k
    from edgekit.device.image import prepare, read_image
    from edgekit.device.session import open_session

__version__ = "0.1.0"

__all__ = (
    "Bundle",
    "EdgekitError",
    "Prediction",
    "__version__",
    "open_session",
    "prepare",
    "read",
    "read_image",
    "top_k",
)

_HOMES = {
    "Bundle": "edgekit.bundle",
    "read": "edgekit.bundle",
    "Prediction": "edgekit.device.decode",
    "top_k": "edgekit.device.decode",
    "prepare": "edgekit.device.image",
    "read_image": "edgekit.device.image",
    "open_session": "edgekit.device.session",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
