"""Networks as users bring them, on every backend: one table, `docs/own-networks.md`.

    python scripts/bench/own_networks.py rows.jsonl                # all: hours on two slow cores
    python scripts/bench/own_networks.py rows.jsonl --backend onnx # some; goes on where it stopped

The networks stand in `tests/lower/brought`, written as people write them. Each is lowered
through the parity gate, without the bundle around it; what is refused is a row that says why.
"""

import argparse
import importlib
import inspect
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit import plugins
from edgekit.errors import EdgekitError
from edgekit.lower.calibrate import Images, from_photographs
from edgekit.lower.gate import edges
from edgekit.lower.load import load_network
from edgekit.lower.network import Network
from edgekit.lower.plan import Request, make_plan
from edgekit.lower.prove import Proof, prove
from edgekit.spec import ImageSpec

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "lower" / "brought"
DOCUMENT = ROOT / "docs" / "own-networks.md"
IMAGE = ImageSpec(32, 32)
PRECISIONS = ("fp32", "int8")
TARGETS = {"litert": "raspberry-pi", "onnx": "linux", "openvino": "linux", "coreml": "ios"}
"""Which target each backend is tried for; the others for Android."""
LONGEST = 260
"""Characters of a refusal that the table shows."""
SPREAD = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@cache
def networks() -> Mapping[str, str]:
    """Name -> `package.module:function`, of every function in the folder."""
    if str(FOLDER.parent) not in sys.path:
        sys.path.insert(0, str(FOLDER.parent))
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = importlib.import_module(f"{FOLDER.name}.{path.stem}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                found[name] = f"{module.__name__}:{name}"
    return found


@cache
def images() -> Images:
    """32 views of photographs, and the gate's edge set: random networks reach furthest there."""
    views, odd = from_photographs(IMAGE, 32), edges.images(IMAGE)
    return Images(views.frames + odd.frames, views.inputs + odd.inputs, views.source)


def make(name: str) -> Network:
    """A network with seeded weights whose layers all carry signal, as after training.

    Raises:
        SpecError: it has several outputs.
    """
    torch.manual_seed(0)
    network = load_network(networks()[name], image=IMAGE)
    pixels = torch.from_numpy(np.concatenate(images().inputs)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGE.mean, IMAGE.std))
    spread(network.module, (pixels - mean) / std)
    return network


def spread(module: nn.Module, planes: Tensor) -> None:
    """Scale each layer, in the order that they run in, to outputs of mean 0 and deviation 1.

    With plain random weights, logits hardly depend on the image, and a wrong result in the middle
    of a network goes unseen (Mishkin and Matas, All you need is a good init, 2016, scale likewise).
    """
    seen: set[nn.Module] = set()

    def scale(layer: nn.Module, _given: Any, output: Tensor) -> Tensor:
        weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
        transposed = isinstance(layer, nn.ConvTranspose2d)
        if layer in seen or (transposed and layer.groups != 1):
            return output
        seen.add(layer)
        channel = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        rest = [axis for axis in range(output.dim()) if axis != channel]
        mean, std = output.mean(rest), output.std(rest).clamp(min=1e-3)
        weight.data.div_(std.view([1, -1, 1, 1] if transposed else [-1, *[1] * (weight.dim() - 1)]))
        along = [-1 if axis == channel else 1 for axis in range(output.dim())]
        if bias is None:
            return output / std.view(along)
        bias.data.sub_(mean).div_(std)
        return (output - mean.view(along)) / std.view(along)

    handles = [m.register_forward_hook(scale) for m in module.modules() if isinstance(m, SPREAD)]
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.train().momentum = None
    with torch.no_grad():
        module(planes)
    for handle in handles:
        handle.remove()
    module.eval()


def attempt(name: str, backend: str, precision: str, folder: Path) -> Proof:
    """Lower one through the gate; an `EdgekitError` says why it is refused."""
    target = TARGETS.get(backend, "android")
    plan = make_plan(Request(target, backend=backend, precision=precision))
    return prove(plan, make(name), images(), folder, lambda _line: None)


def row(name: str, backend: str, precision: str) -> dict[str, Any]:
    """What became of one: its last hop in dB, or the refusal; and how long it took."""
    started = time.perf_counter()
    found: dict[str, Any] = {"name": name, "backend": backend, "precision": precision}
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            proof = attempt(name, backend, precision, Path(folder))
            found["snr_db"] = proof.hops[-1].snr_db
            found["quantised_db"] = proof.hops[-2].snr_db if precision == "int8" else None
        except EdgekitError as error:
            found["refused"] = str(error)
        except Exception as error:  # a fault of ours: a row, so that the others are measured
            traceback.print_exc()
            found["refused"] = f"FAULT: {type(error).__name__}: {str(error).splitlines()[:1]}"
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def table(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown: a line a network, a column a backend and precision, and why what was refused."""
    cells = {(r["name"], r["backend"], r["precision"]): r for r in rows}
    columns = sorted({key[1:] for key in cells})
    reasons: dict[str, int] = {}

    def cell(found: Mapping[str, Any] | None) -> str:
        if found is None:
            return ""
        if "refused" not in found:
            return "same" if found["snr_db"] >= 200 else f"{found['snr_db']:.0f}"
        reason = str(found["refused"]).partition("; or ")[0]
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ..."
        return f"no [{reasons.setdefault(reason, len(reasons) + 1)}]"

    yield "| network | " + " | ".join(" ".join(column) for column in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name in networks():
        line = [cell(cells.get((name, *column))) for column in columns]
        yield f"| {name} | " + " | ".join(line) + " |"
    yield ""
    for reason, number in reasons.items():
        yield f"{number}. {reason}".replace("tests/lower/brought/", "")


def write(rows: list[Mapping[str, Any]], document: Path) -> None:
    """Put the table between the document's two marks."""
    before, _, rest = document.read_text(encoding="utf-8").partition("<!-- rows -->\n")
    after = rest.partition("<!-- end -->")[2]
    middle = "\n".join(table(rows))
    document.write_text(f"{before}<!-- rows -->\n{middle}\n<!-- end -->{after}", encoding="utf-8")


def main() -> None:
    """Lower what is not in the rows yet, then write the table."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("rows", type=Path, help="JSON lines; what is in it is not done again")
    arguments.add_argument("--backend", action="append", choices=plugins.backends())
    arguments.add_argument("--precision", action="append", choices=PRECISIONS)
    arguments.add_argument("--network", action="append", choices=networks())
    given = arguments.parse_args()
    rows = read_rows(given.rows)
    done = {(r["name"], r["backend"], r["precision"]) for r in rows}
    with given.rows.open("a", encoding="utf-8") as out:
        for backend in given.backend or plugins.backends():
            for precision in given.precision or PRECISIONS:
                for name in given.network or networks():
                    if (name, backend, precision) not in done:
                        rows.append(row(name, backend, precision))
                        print(json.dumps(rows[-1]), file=out, flush=True)
    write(rows, DOCUMENT)


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """What an earlier run left there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
