"""Edits a `.tflite` file's inputs and outputs: uint8 `image` in, float32 `logits` out, by name.

The converter leaves an int8 program int8 at both ends. A QUANTIZE that moves uint8 by 128 and a
DEQUANTIZE make the file mean the same to every program that opens it.
"""

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def camera_in_float_out(content: bytes, input_name: str, output_name: str) -> bytes:
    """Rewrite a one-input model; further outputs are named `<output_name>_<n>`."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    graph.inputs = [_as_uint8(model, graph, index, input_name) for index in graph.inputs]
    graph.outputs = [
        _as_float(model, graph, index, f"{output_name}_{n}" if n else output_name)
        for n, index in enumerate(_outputs_in_order(model))
    ]
    _name_signature(model, graph)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _outputs_in_order(model: Any) -> list[int]:
    """The converter names outputs `output_<n>` in its signature; the graph's order is its own."""
    entries = model.signatureDefs[0].outputs
    entries = sorted(entries, key=lambda e: int(e.name.decode().rpartition("_")[2]))
    return [entry.tensorIndex for entry in entries]


def _as_uint8(model: Any, graph: Any, index: int, name: str) -> int:
    tensor = graph.tensors[index]
    if tensor.type == schema.TensorType.INT8:
        quantization = schema.QuantizationParametersT()
        quantization.scale = list(tensor.quantization.scale)
        quantization.zeroPoint = [int(z) + 128 for z in tensor.quantization.zeroPoint]
        added = _add_tensor(graph, tensor, schema.TensorType.UINT8, quantization)
        _add_operator(model, graph, schema.BuiltinOperator.QUANTIZE, added, index, first=True)
        index = added
    graph.tensors[index].name = name.encode()
    return index


def _as_float(model: Any, graph: Any, index: int, name: str) -> int:
    tensor = graph.tensors[index]
    if tensor.type == schema.TensorType.INT8:
        added = _add_tensor(graph, tensor, schema.TensorType.FLOAT32, None)
        _add_operator(model, graph, schema.BuiltinOperator.DEQUANTIZE, index, added, first=False)
        index = added
    graph.tensors[index].name = name.encode()
    return index


def _add_tensor(graph: Any, like: Any, kind: int, quantization: Any) -> int:
    tensor = schema.TensorT()
    tensor.shape = like.shape
    tensor.hasRank = like.hasRank
    tensor.type = kind
    tensor.buffer = 0  # the empty buffer: memory is given at run time
    tensor.quantization = quantization
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _add_operator(
    model: Any, graph: Any, kind: int, source: int, result: int, *, first: bool
) -> None:
    operator = schema.OperatorT()
    operator.opcodeIndex = opcode(model, kind)
    operator.inputs, operator.outputs = [source], [result]
    graph.operators.insert(0 if first else len(graph.operators), operator)


def opcode(model: Any, kind: int) -> int:
    """The index of an operator's code in the model's table, where it is added if it has to be."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == kind:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _name_signature(model: Any, graph: Any) -> None:
    """One signature whose names are the tensors' own."""
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.subgraphIndex = 0
    signature.inputs = [_entry(graph, index) for index in graph.inputs]
    signature.outputs = [_entry(graph, index) for index in graph.outputs]
    model.signatureDefs = [signature]


def _entry(graph: Any, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = graph.tensors[index].name
    entry.tensorIndex = index
    return entry
