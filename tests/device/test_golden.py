from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle, Golden, Tolerance
from edgekit.device.golden import Difference, difference, replay
from edgekit.device.session import open_session
from edgekit.errors import BundleError
from edgekit.spec import Session


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with closing(open_session(bundle)) as opened:
        yield opened


def but(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, **changes))


def test_difference_worked_out() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 5.0]])
    found = np.array([[3.0, 4.5], [0.5, 0.0]])
    got = difference(expected, found)
    assert got.max_abs_error == 5.0
    assert got.snr_db == pytest.approx(10 * np.log10(50 / 25.5))
    assert got.top1_agreement == 0.5


def test_equal_is_two_hundred_decibels() -> None:
    assert difference(np.ones((2, 3)), np.ones((2, 3))) == Difference(0.0, 200.0, 1.0)


def test_what_is_not_finite_or_of_another_shape_is_infinitely_far() -> None:
    far = Difference(float("inf"), -200.0, 0.0)
    assert difference(np.ones((1, 2)), np.array([[1.0, np.nan]])) == far
    assert difference(np.ones((1, 2)), np.ones((1, 3))) == far


def test_a_sound_bundle_passes(bundle: Bundle, session: Session) -> None:
    result = replay(bundle, session)
    assert result.passed
    assert result.cases[0].input_error == 0
    assert result.cases[0].output.snr_db > 100


def test_another_image_contract_fails_at_the_input_alone(bundle: Bundle, session: Session) -> None:
    other = but(bundle, image=replace(bundle.manifest.image, crop_fraction=0.5))
    (failure,) = replay(other, session).failures
    assert "prepares other pixels" in failure


def test_another_model_fails_at_the_output_alone(bundle: Bundle, tmp_path: Path) -> None:
    class Swapped:
        """Gives the classes in another order, as swapped colour channels would."""

        def __init__(self, inner: Session) -> None:
            self.inputs, self.outputs, self.notes = inner.inputs, inner.outputs, inner.notes
            self.close, self._inner = inner.close, inner

        def run(self, fill: Any) -> Any:
            return {name: logits[:, ::-1] for name, logits in self._inner.run(fill).items()}

    strict = but(bundle, golden_tolerance=Tolerance(1e-4, 80.0, 1.0))
    with closing(Swapped(open_session(bundle))) as swapped:
        (failure,) = replay(strict, swapped).failures
    assert "the model's output differs" in failure
    assert "at least 80.0" in failure


def test_a_bundle_that_proves_nothing_fails(bundle: Bundle, session: Session) -> None:
    assert "nothing is proven" in replay(but(bundle, golden=()), session).failures[0]


def test_arrays_that_do_not_fit(bundle: Bundle, session: Session) -> None:
    names = bundle.manifest.golden[0]
    swapped = but(bundle, golden=(Golden(names.frame, names.output, names.input),))
    with pytest.raises(BundleError, match=r"must be \(1, 8, 12, 3\) uint8"):
        replay(swapped, session)
    picture = but(bundle, golden=(Golden(names.frame, names.frame, names.output),))
    with pytest.raises(BundleError, match="cannot read the golden array"):
        replay(picture, session)
