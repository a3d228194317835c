"""What is in a bundle, in words and counts."""

from collections import Counter
from collections.abc import Mapping

from edgekit import plugins
from edgekit.bundle import Bundle, Hop
from edgekit.spec import ImageSpec, Placement, SessionOptions, TensorSpec


def operators(bundle: Bundle) -> Mapping[str, int]:
    """How often each operator stands in the model file, the most frequent first.

    Raises:
        MissingPackage: the backend's runtime is needed to tell, and is not installed.
        UnknownName: the backend cannot tell.
    """
    counts = plugins.reader(bundle.manifest.backend)(bundle.model)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def model_bytes(bundle: Bundle) -> int:
    """Size of the model file, or of all files of the model package."""
    model = bundle.manifest.model
    return sum(
        entry.size
        for entry in bundle.manifest.files
        if entry.path == model or entry.path.startswith(f"{model}/")
    )


def placement(bundle: Bundle) -> Placement:
    """What the target's accelerator takes of the model, and what falls back.

    Raises:
        MissingPackage: a package is needed to tell, and is not installed.
        UnknownName: the backend cannot tell.
        SpecError: it cannot tell for these session options.
    """
    manifest = bundle.manifest
    return plugins.placer(manifest.backend)(bundle.model, manifest.session)


def placement_lines(placed: Placement) -> tuple[str, ...]:
    """A placement for people: the sum, a line for each kind that falls back, and the rules."""
    total = len(placed.operators)
    taken = sum(op.partition >= 0 for op in placed.operators)
    border = [op.kind for op in placed.operators if op.partition < 0 and op.border]
    falling = Counter((op.kind, op.reason) for op in placed.fallen)
    count = placed.partitions
    return (
        f"{placed.accelerator} takes {taken} of {total} operators, in {count} "
        f"partition{'' if count == 1 else 's'}; {placed.crossing_bytes:,} bytes cross in one run",
        *([f"at the border, as it must be: {', '.join(border)}"] if border else []),
        *(
            f"falls back: {kind}{f' ({times} times)' if times > 1 else ''}: {reason}"
            for (kind, reason), times in falling.most_common()
        ),
        f"told by: {placed.basis}",
    )


def image_contract(image: ImageSpec) -> tuple[str, ...]:
    """The steps from camera pixels to the network, in order, one sentence each.

    The last one is done inside the model.
    """
    size = f"{image.width}x{image.height}"
    how = {
        "bilinear": "bilinear with half-pixel centres, no anti-aliasing",
        "area": "mean over the covered pixels when it shrinks, else bilinear",
    }[image.interpolation]
    fit = {
        "crop": f"cut out the centred box of {size}'s aspect ratio, {image.crop_fraction:.1%} of "
        f"the largest that fits; resize it to {size}",
        "stretch": f"resize the whole image to {size}; its aspect ratio is not kept",
        "letterbox": f"resize the whole image to fit into {size}; fill the margins "
        f"with {image.fill}",
    }[image.fit]
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (image.mean, image.std))
    return (
        f"{fit} ({how})",
        f"{image.color}, uint8, 0 to 255, (1, {image.height}, {image.width}, 3)",
        f"in the model: (pixel / 255 - mean) / std, mean {mean}, std {std}",
    )


def tensor(spec: TensorSpec) -> str:
    """For instance `image: uint8 (1, 224, 224, 3)`."""
    return f"{spec.name}: {spec.dtype} {spec.shape}"


def hop(found: Hop) -> tuple[str, str, str, str, str]:
    """A row for people: name, images, max error, SNR and top-1 agreement, each with its limit."""
    limit = found.tolerance
    return (
        found.name,
        str(found.images),
        f"{found.max_abs_error:.3g} (<= {limit.max_abs_error:.3g})",
        f"{found.snr_db:.1f} (>= {limit.snr_db:.1f})",
        f"{found.top1_agreement:.3f} (>= {limit.top1_agreement:.3f})",
    )


def options(session: SessionOptions) -> str:
    """The options that are set, for instance `threads 4`; the rest is the runtime's choice."""
    said = [f"threads {session.threads}" if session.threads else "threads: the runtime's choice"]
    said += [" then ".join(session.providers)] if session.providers else []
    said += [name for name in ("fp16", "int8") if getattr(session, name)]
    said += [f"engines kept in {session.engine_cache}"] if session.engine_cache else []
    return ", ".join(said)
