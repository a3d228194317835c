"""Make a classifier of an mlprogram: labels beside the logits.

Xcode's preview, and Vision's `VNCoreMLRequest`, know an image classifier by three things: the
operator `classify`, an output of the label and one of a probability for each label, and their names
in the description (https://apple.github.io/coremltools/docs-guides/source/classifiers.html). Labels
in the metadata alone give neither. coremltools' own `classifier_config` would take the logits away,
or their type, so the operator is added to the finished program here, and `logits` stays.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

LABEL, PROBABILITIES = "classLabel", "classLabel_probs"
SOFTMAX = "probabilities"
"""What the program's own output is called that the operator takes; it is no output afterwards."""


def unique(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, each once: one that several classes have gets its index, as `crane (517)`."""
    counts = Counter(labels)
    return tuple(
        label if counts[label] == 1 else f"{label} ({index})" for index, label in enumerate(labels)
    )


def add(model: Any, labels: Sequence[str]) -> None:
    """Turn the output `SOFTMAX` of a `Model` into a label and a probability for each label.

    Args:
        model: the protobuf message; changed.
        labels: one for each class, no two the same.
    """
    (function,) = model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    operation = block.operations.add(type="classify")
    operation.inputs["probabilities"].arguments.add().name = SOFTMAX
    _list(operation.inputs["classes"].arguments.add().value, labels)
    _string(operation.attributes["name"], "classify")
    label = operation.outputs.add(name=LABEL)
    label.type.tensorType.dataType = STRING
    pairs = operation.outputs.add(name=PROBABILITIES).type.dictionaryType
    pairs.keyType.tensorType.dataType = STRING
    pairs.valueType.tensorType.dataType = FLOAT64
    block.outputs[:] = [*(name for name in block.outputs if name != SOFTMAX), LABEL, PROBABILITIES]
    _describe(model.description)


STRING, FLOAT64 = 2, 12
"""`DataType` of MIL.proto."""


def _describe(description: Any) -> None:
    (softmax,) = (output for output in description.output if output.name == SOFTMAX)
    description.output.remove(softmax)
    label = description.output.add(name=LABEL, shortDescription="The most probable class.")
    label.type.stringType.SetInParent()
    pairs = description.output.add(
        name=PROBABILITIES, shortDescription="Of each class, softmax of the logits."
    )
    pairs.type.dictionaryType.stringKeyType.SetInParent()
    description.predictedFeatureName = LABEL
    description.predictedProbabilitiesName = PROBABILITIES


def _list(value: Any, texts: Sequence[str]) -> None:
    value.type.listType.type.tensorType.dataType = STRING
    value.type.listType.length.constant.size = len(texts)
    for text in texts:
        _string(value.immediateValue.list.values.add(), text)


def _string(value: Any, text: str) -> None:
    value.type.tensorType.dataType = STRING
    value.immediateValue.tensor.strings.values.append(text)
