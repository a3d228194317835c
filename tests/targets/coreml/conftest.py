"""Packages written through coremltools' own builder, for the interpreter to read back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.coreml import package

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def ct() -> Any:
    """The module coremltools, quietly."""
    pytest.importorskip("coremltools")
    from targets.coreml.toolkit import coremltools

    return coremltools("testing")


@pytest.fixture
def write(ct: Any, tmp_path: Path) -> Write:
    """`write(body, half=False)`: a package whose program is `body(mb, image)`, of 8x12 pixels."""

    def write(body: Callable[[Any, Any], Any], half: bool = False) -> Path:
        from coremltools.converters.mil import Builder as mb  # noqa: N813

        shape = (1, 3, 8, 12)

        made = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS17)
        program = made(lambda image: body(mb, image))
        converted = ct.convert(
            program,
            inputs=[ct.ImageType(name="image", shape=shape)],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        path = tmp_path / "model.mlpackage"
        content = converted.get_spec().SerializeToString(deterministic=True)
        package.write(path, content, Path(converted.weights_dir))
        return path

    return write
