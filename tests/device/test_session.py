from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.device.golden import run_input
from edgekit.device.session import open_session
from edgekit.errors import BundleError
from edgekit.spec import TensorSpec


def test_opens_and_runs(bundle: Bundle) -> None:
    with closing(open_session(bundle)) as session:
        logits = run_input(session, np.full((1, 8, 12, 3), 160, np.uint8))["logits"]
    np.testing.assert_allclose(logits, [[10.0, 10.0, 10.0]])


def test_a_model_with_another_input_is_refused(bundle: Bundle) -> None:
    other = replace(bundle.manifest, inputs=(TensorSpec("picture", (1, 8, 12, 3), "uint8"),))
    with pytest.raises(
        BundleError, match=r"states the inputs picture .* has image \(1, 8, 12, 3\)"
    ):
        open_session(replace(bundle, manifest=other))


def test_a_model_with_another_output_is_refused(bundle: Bundle) -> None:
    other = replace(bundle.manifest, outputs=(TensorSpec("logits", (1, 4), "float32"),))
    with pytest.raises(BundleError, match=r"states the outputs logits \(1, 4\)"):
        open_session(replace(bundle, manifest=other))
