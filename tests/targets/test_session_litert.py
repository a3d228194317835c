"""What only LiteRT's session has: the account of what XNNPACK took."""

from contextlib import closing
from pathlib import Path
from typing import Any

from edgekit.spec import SessionOptions
from targets.litert.session import delegation, load


def op(index: int, name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}


def test_all_delegated() -> None:
    ops = [op(0, "CONV_2D", [0, 1], [2]), op(1, "MUL", [2], [3]), op(2, "DELEGATE", [0, 1], [3])]
    assert delegation(ops, [3]) == "LiteRT: XNNPACK runs 2 of 2 operators"


def test_an_operator_in_the_middle_is_left() -> None:
    ops = [
        op(0, "CONV_2D", [0], [1]),
        op(1, "ODD", [1], [2]),
        op(2, "MUL", [2], [3]),
        op(3, "DELEGATE", [0], [1]),
        op(4, "DELEGATE", [2], [3]),
    ]
    expected = "LiteRT: XNNPACK runs 2 of 3 operators; left to slower kernels: ODD"
    assert delegation(ops, [3]) == expected


def test_no_delegate() -> None:
    ops = [op(0, "CONV_2D", [0], [1]), op(1, "SOFTMAX", [1], [2])]
    expected = "LiteRT: XNNPACK runs 0 of 2 operators; left to slower kernels: CONV_2D, SOFTMAX"
    assert delegation(ops, [2]) == expected


def test_googles_own_file(shared: Path) -> None:
    model = shared / "weights" / "peers" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    with closing(load(model, SessionOptions(threads=1))) as session:
        assert session.notes == (
            "LiteRT: XNNPACK runs 65 of 68 operators; "
            "left to slower kernels: QUANTIZE, QUANTIZE, SOFTMAX",
        )
        assert session.inputs[0].shape == (1, 224, 224, 3)
