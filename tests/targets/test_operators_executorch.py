"""Reading a `.pte` file's operators off its bytes."""

import random
from collections import Counter
from pathlib import Path

import pytest

from edgekit.errors import BundleError
from targets.executorch import operators as reading
from targets.executorch.operators import count, operators
from targets.flatbuffer import Table


@pytest.fixture
def backend() -> str:
    return "executorch"


def test_kernels_are_counted_by_their_names(model: Path) -> None:
    casts = {"dim_order_ops::_to_dim_order_copy.out": 2}  # the pixels, and the 16
    assert operators(model) == {"aten::mean.out": 1, "aten::div.out": 1, **casts}


def test_damaged_files_are_counted_or_refused(model: Path, tmp_path: Path) -> None:
    content, path, seen = model.read_bytes(), tmp_path / "damaged.pte", Counter[str]()
    for seed in range(400):
        choose = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(3):
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        path.write_bytes(damaged[: choose.choice((None, choose.randrange(len(damaged))))])
        try:
            operators(path)
            seen["counted"] += 1
        except BundleError as error:
            assert "is not an ExecuTorch model" in str(error)  # noqa: PT017
            seen["refused"] += 1
    assert min(seen.values()) > 50


def test_no_program_is_no_program() -> None:
    with pytest.raises(ValueError, match="does not begin as one"):
        count(memoryview(b"TFL3" * 100))


def test_an_offset_that_leads_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="an offset leads outside of it, to byte 4294967295"):
        Table.root(memoryview(b"\xff\xff\xff\xff")).number(0)


def test_operators_of_the_delegate_are_numbers_without_the_runtimes_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reading._xnnpack.__wrapped__()[:3] == ("Add", "FullyConnected", "Softmax")
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    assert reading._xnnpack.__wrapped__() == ()
