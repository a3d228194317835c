"""edgekit from nothing to a first answer: a verified bundle, a session, one image.

    python scripts/bench/cold/edgekit_.py BUNDLE IMAGE

IMAGE: pixels at the model's size (`.npy`), or a photograph.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit import bundle
from edgekit.device.decode import top_k
from edgekit.device.session import open_session

opened = bundle.read(Path(sys.argv[1]))
options = replace(opened.manifest.session, threads=1)
opened = replace(opened, manifest=replace(opened.manifest, session=options))
session = open_session(opened)
if sys.argv[2].endswith(".npy"):
    pixels = np.load(sys.argv[2])

    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        """Copy the pixels in."""
        inputs[session.inputs[0].name][:] = pixels
else:
    from edgekit.device.image import prepare, read_image

    photograph = read_image(Path(sys.argv[2]))

    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        """Crop and resize the photograph in."""
        prepare(photograph, "RGB", opened.manifest.image, inputs[session.inputs[0].name][0])


outputs = session.run(fill)
(best,) = top_k(outputs[session.outputs[0].name], opened.labels, 1)
from scripts.bench.cold import done  # noqa: E402  (what the answer did not need)

done.tell(best.label)
