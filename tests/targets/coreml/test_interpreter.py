"""What the interpreter does with a whole program: float16, flags, labels, what it does not know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import BundleError, SpecError
from edgekit.spec import SessionOptions, TensorSpec
from targets.coreml.interpreter import Flag, Interpreter, flags
from targets.coreml.session import load

Write = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")

PICTURE = np.random.default_rng(0).integers(1, 256, (1, 8, 12, 3), np.uint8)


def scaled(mb: Any, image: Any) -> Any:
    """Colour means, about 128, times 1000 and back: past 65504 on the way."""
    large = mb.mul(x=mb.reduce_mean(x=image, axes=[2, 3]), y=np.float32(1000), name="large")
    return mb.mul(x=large, y=np.float32(1e-3), name="logits")


def lossy(mb: Any, image: Any) -> Any:
    """A small difference of large numbers: float16 has 11 bits of each."""
    means = mb.reduce_mean(x=image, axes=[2, 3])
    moved = mb.add(x=mb.mul(x=means, y=np.float32(1e-3)), y=np.float32(2000), name="moved")
    return mb.sub(x=moved, y=np.float32(2000), name="logits")


def plain(mb: Any, image: Any) -> Any:
    return mb.mul(x=mb.reduce_mean(x=image, axes=[2, 3]), y=np.float32(0.01), name="logits")


def test_a_program_computes_what_it_says(write: Write) -> None:
    interpreter = Interpreter(write(plain))
    assert interpreter.program.input == TensorSpec("image", (1, 8, 12, 3), "uint8")
    found = interpreter.run(PICTURE)["logits"]
    np.testing.assert_allclose(found, PICTURE.mean((1, 2)) / 100, rtol=1e-6)
    assert not interpreter.program.half
    assert flags(interpreter, [PICTURE]) == []


def test_float16_results_are_rounded_to_float16(write: Write) -> None:
    interpreter = Interpreter(write(plain, half=True))
    assert interpreter.program.half
    found = interpreter.run(PICTURE)["logits"].astype(np.float64)
    wanted = PICTURE.mean((1, 2)) / 100
    np.testing.assert_array_equal(found, found.astype(np.float16))
    assert 0 < np.abs(found - wanted).max() < 2e-3 * wanted.max()
    assert flags(interpreter, [PICTURE]) == []


def test_an_overflow_is_flagged_where_it_arises_and_only_there(write: Write) -> None:
    interpreter = Interpreter(write(scaled, half=True))
    (found,) = flags(interpreter, [PICTURE])
    assert found.kind == "overflow"
    assert found.layer.endswith("(mul)")
    assert found.layer.startswith("large")
    assert "65504" in str(found)


def test_the_same_in_float32_overflows_nowhere(write: Write) -> None:
    interpreter = Interpreter(write(scaled))
    assert flags(interpreter, [PICTURE]) == []
    np.testing.assert_allclose(interpreter.run(PICTURE)["logits"], PICTURE.mean((1, 2)), rtol=1e-5)


def test_a_layer_under_the_limit_is_flagged_with_its_snr(write: Write) -> None:
    interpreter = Interpreter(write(lossy, half=True))
    found = flags(interpreter, [PICTURE], snr_db=30.0)
    assert [(flag.kind, flag.layer.partition("_")[0]) for flag in found] == [("snr", "logits")]
    assert found[0].snr_db < 30
    assert flags(interpreter, [PICTURE], snr_db=-100.0) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [(scaled, "65504"), (lossy, "dB against float32"), (plain, "none overflows")],
)
def test_a_session_says_after_its_first_image_what_float16_does(
    write: Write, body: Any, said: str
) -> None:
    session = load(write(body, half=True), SessionOptions())
    assert not any("float16" in note for note in session.notes)
    for _ in range(2):
        session.run(lambda inputs: np.copyto(inputs["image"], PICTURE))
    assert sum("float16" in note and said in note for note in session.notes) == 1


def test_an_unknown_operator_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from targets.coreml.mil import pointwise

    path = write(lambda mb, image: mb.reduce_mean(x=mb.tanh(x=image), axes=[2, 3], name="logits"))
    monkeypatch.delitem(pointwise.OPERATORS, "tanh")
    with pytest.raises(SpecError, match="does not know Core ML's operator 'tanh'"):
        Interpreter(path)


def test_a_damaged_program_is_refused(write: Write) -> None:
    path = write(plain)
    model = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model.write_bytes(model.read_bytes()[:-7])
    with pytest.raises(BundleError, match="refuses the model"):
        Interpreter(path)


def test_a_flag_is_a_sentence() -> None:
    assert str(Flag("conv_1 (conv)", "snr", 12.34)) == "conv_1 (conv): SNR 12.3 dB against float32"
