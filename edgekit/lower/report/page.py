"""`report.html`: a bundle explained on one page that needs nothing from anywhere else."""

from collections import defaultdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgekit.cost.layers import COUNTED
from edgekit.lower.report import plots
from edgekit.lower.report.data import Report
from edgekit.lower.report.fusion import Fusion
from edgekit.spec import Placement

TEMPLATE = Path(__file__).with_suffix(".html")
BYTES_SAVED = {"fp32": 1, "fp16": 2, "int8": 4, "int8-weights": 1, "int4-weights": 1}
"""What a float32 takes, over what an activation of that precision takes."""


def page(report: Report) -> str:
    """The page as HTML; every text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    placement = report.explained.placement
    layers = report.explained.cost.layers
    return environment.get_template(TEMPLATE.name).render(
        report=report,
        explained=report.explained,
        measured=report.measured,
        placement=placement,
        taken=sum(op.partition >= 0 for op in placement.operators) if placement else 0,
        falling=_falling(placement) if placement else [],
        fused=_fused(report.explained.fusion),
        scale=BYTES_SAVED[report.precision],
        counted=COUNTED,
        kinds=list(dict.fromkeys(layer.kind.partition(" ")[0] for layer in layers)),
        plots=_plots(report),
    )


def _plots(report: Report) -> dict[str, Markup | dict[str, Markup] | None]:
    explained = report.explained
    return {
        "layers": {
            hop: plots.snr_of_layers(found) for hop, found in report.layers.items() if found
        },
        "accuracy": plots.accuracy_whisker(report.accuracy) if report.accuracy else None,
        "placement": plots.placement_strip(explained.placement.operators)
        if explained.placement
        else None,
        "macs": plots.macs_of_layers(explained.cost.layers) if explained.cost.layers else None,
        "latency": plots.runs_of_latency(report.measured.latency_ms),
    }


def _fused(found: Fusion) -> list[tuple[str, int, str]]:
    """What was fused, how often, and out of how many."""
    apart = found.activations - found.fused
    others = f"; the other {apart} are operators of their own" if apart else ""
    whole = f"of {found.layers} convolutions and linear layers"
    norms = (
        f"of {found.batch_norms}" if found.batch_norms else "none in the network as it is stored"
    )
    return [
        ("convolutions that are one layer with a batch norm and an activation", found.whole, whole),
        ("batch norms folded into the weights of the layer before them", found.folded, norms),
        ("activations fused into the operator before them", found.fused,
         f"of {found.activations}{others}"),
    ]  # fmt: skip


def _falling(placement: Placement) -> list[tuple[str, str, list[str]]]:
    """Kind, reason and names of what falls back, the most frequent first."""
    names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for op in placement.fallen:
        names[op.kind, op.reason].append(op.name)
    ordered = sorted(names.items(), key=lambda pair: -len(pair[1]))
    return [(kind, reason, found) for (kind, reason), found in ordered]
