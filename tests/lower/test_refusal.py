"""A toolkit's refusal names the operator, the user's line and a way out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgekit.errors import BundleError, MissingPackage, SpecError
from edgekit.lower import refusal
from edgekit.lower.plan import Request, make_plan

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        x = x.relu()
        x = x.topk(3).values
        x = torch.fft.fft2(x).real
        return nn.functional.conv_transpose2d(x, torch.ones(3, 2, 2, 2))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> ExportedProgram:
    """Of a user's file; its lines 7 to 10 have one operator each."""
    path = tmp_path_factory.mktemp("user") / "net.py"
    path.write_text(NET)
    names: dict[str, Any] = {}
    exec(compile(NET, str(path), "exec"), names)
    return torch.export.export(names["Net"](), (torch.zeros(1, 3, 4, 4),))


def raised(program: ExportedProgram, error: Exception, **wanted: Any) -> str:
    plan = make_plan(Request("linux", **wanted))
    with pytest.raises(SpecError) as caught, refusal.says_why(plan, program):
        raise error
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "line", "operator"),
    [
        ("Lowering not found: aten.topk.default", "net.py:8: `x = x.topk(3).values`", "topk"),
        ("convert function for op 'topk' not implemented", "net.py:8", "topk"),
        ("no ONNX function for aten::relu", "net.py:7", "relu"),
        ("Didn't find op for builtin opcode 'STABLEHLO_SORT'", "net.py:8", "topk"),
        ("Failed at node_topk: bad axis", "net.py:8", "topk"),
        ("Unsupported fx node topk, kind topk", "net.py:8", "topk"),
        ("'complex64' is not a type", "net.py:9", "fft_fft2"),
        ("it has no kernel for aten::_fft_c2c.out", "net.py:9", "fft_fft2"),
        ("failed to legalize operation 'mhlo.convolution'", "net.py:10", "conv_transpose2d"),
    ],
)
def test_the_operator_and_the_line_are_found_in_what_toolkits_say(
    program: ExportedProgram, words: str, line: str, operator: str
) -> None:
    said = raised(program, RuntimeError(words))
    assert line in said
    assert f"onnx cannot take {operator}: " in said
    assert words in said


def test_they_are_found_in_the_cause_of_what_the_compiler_says(program: ExportedProgram) -> None:
    error = SpecError("the converter cannot convert this network: it failed")
    error.__cause__ = KeyError("aten.topk.default")
    said = raised(program, error)
    assert "net.py:8" in said
    assert "it failed" in said
    assert "net.py:8" in raised(program, SpecError("it has no kernel for aten::topk.out"))


def test_ways_out(program: ExportedProgram) -> None:
    said = raised(program, RuntimeError("aten.topk.default"), backend="litert", precision="int8")
    assert "amax(-1)" in said
    assert "--backend onnx" in said
    assert "--precision fp32" in said
    assert "litert" not in said.partition("--backend")[2]
    plan = make_plan(Request("raspberry-pi"))
    assert "--backend onnx" in str(refusal.refusal(plan, program, RuntimeError("what?")))
    said = raised(program, RuntimeError("complex64"), precision="fp32")
    assert "real matrices" in said
    assert "--precision" not in said


def test_a_guess_is_said_to_be_one(program: ExportedProgram) -> None:
    said = raised(program, RuntimeError("Segment 3 is out of range"))
    assert "onnx cannot take this network, perhaps because of topk: Segment 3" in said


def test_nothing_is_made_up_where_there_is_nothing_to_guess() -> None:
    plain = torch.export.export(nn.ReLU(), (torch.zeros(1, 4),))
    said = raised(plain, RuntimeError("Segment 3 is out of range"))
    assert said.startswith("onnx cannot take this network: Segment 3 is out of range")


def test_no_path_of_a_file_that_is_gone_is_shown(program: ExportedProgram, tmp_path: Path) -> None:
    error = BundleError(f"LiteRT refuses the model {tmp_path}/model.tflite: Didn't find op SORT")
    error.__cause__ = ValueError("Didn't find op SORT")
    said = raised(program, error)
    assert "the model model.tflite: Didn't" in said
    assert "aten in targets/coreml" in raised(program, SpecError("aten in targets/coreml"))
    assert str(tmp_path) not in said.partition("cannot take")[2]


def test_a_long_story_is_cut(program: ExportedProgram) -> None:
    said = raised(program, RuntimeError("the graph is " + "so " * 500 + "long"))
    assert len(said) < 700


@pytest.mark.parametrize(
    "error",
    [
        SpecError("[options] opset = 99 is not an option"),
        MissingPackage("onnx", "host", "compiling"),
        FileNotFoundError("no such folder"),
    ],
)
def test_our_own_words_are_left_alone(program: ExportedProgram, error: Exception) -> None:
    plan = make_plan(Request("linux"))
    with pytest.raises(type(error)) as caught, refusal.says_why(plan, program):
        raise error
    assert caught.value is error


def test_an_operator_of_ours_is_not_blamed() -> None:
    class Ours(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.topk(3).values

    graph = torch.export.export(Ours(), (torch.zeros(1, 4),)).graph
    assert isinstance(refusal.culprit(graph, "aten.topk.default"), fx.Node)
    for node in graph.nodes:
        node.meta["stack_trace"] = f'File "{refusal.__file__}", line 1, in f'
    assert refusal.culprit(graph, "aten.topk.default") is None
