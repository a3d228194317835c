"""What a package says of itself: its protobuf message, its image and its tensors."""

from pathlib import Path
from typing import Any

from edgekit.errors import BundleError, SpecError
from edgekit.spec import TensorSpec
from targets.coreml import package
from targets.coreml.toolkit import coremltools

TYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}
"""`ArrayDataType` of FeatureTypes.proto -> numpy's name."""


def describe(model: Path) -> tuple[Any, TensorSpec, tuple[TensorSpec, ...]]:
    """The protobuf message of a package, its image input and its tensor outputs.

    Raises:
        BundleError: it cannot be read, or is no mlprogram.
        SpecError: it has no image input, or a shape is free.
        MissingPackage: coremltools is not installed.
    """
    ct = coremltools("running a Core ML bundle")
    content, _ = package.read(model)
    message = ct.proto.Model_pb2.Model()
    try:
        message.ParseFromString(content)
    except Exception as error:  # protobuf's classes differ between its implementations
        raise BundleError(f"Core ML refuses the model {model}: {error}") from error
    if message.WhichOneof("Type") != "mlProgram":
        raise BundleError(f"Core ML refuses the model {model}: it holds no mlprogram")
    found = message.description
    if len(found.input) != 1 or found.input[0].type.WhichOneof("Type") != "imageType":
        raise SpecError(
            f"{model} has the inputs {[each.name for each in found.input]}; "
            "a bundle's model takes one image: build it with edgekit"
        )
    tensors = [each for each in found.output if each.type.WhichOneof("Type") == "multiArrayType"]
    return message, _image(found.input[0]), tuple(_tensor(each) for each in tensors)


def _image(feature: Any) -> TensorSpec:
    image = feature.type.imageType
    if image.WhichOneof("SizeFlexibility") or min(image.height, image.width) < 1:
        raise SpecError(f"'{feature.name}' has no fixed shape; build the model with static shapes")
    return TensorSpec(feature.name, (1, image.height, image.width, 3), "uint8")


def _tensor(feature: Any) -> TensorSpec:
    array = feature.type.multiArrayType
    if array.WhichOneof("ShapeFlexibility") or not array.shape:
        raise SpecError(f"'{feature.name}' has no fixed shape; build the model with static shapes")
    return TensorSpec(feature.name, tuple(array.shape), TYPES[array.dataType])
