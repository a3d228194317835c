"""What a recipe's values must be, beyond their types."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from edgekit.errors import SpecError
from edgekit.learn.recipe.data import Augment, DataSpec
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.recipe.steps import BuildStep, Distill, PruneStep, QuantizeStep, Step


def check(recipe: Recipe, source: str) -> None:
    """Raise SpecError with the first rule that does not hold; `source` names the file."""
    for holds, rule in _rules(recipe):
        if not holds:
            raise SpecError(f"{source}: {rule}")


_Rules = Iterator[tuple[bool, str]]


def _rules(recipe: Recipe) -> _Rules:
    classes, wanted = recipe.classes, len(recipe.classes)
    yield recipe.head.seed >= 0, f"'seed' must be at least 0, got {recipe.head.seed}"
    yield bool(recipe.steps), "there are no steps; add at least one [[steps]] table"
    yield (
        not isinstance(next(iter(recipe.steps), None), BuildStep),
        "the first step is a build; there is nothing to build before a step has trained",
    )
    twice = [n for n, count in Counter(step.name for step in recipe.steps).items() if count > 1]
    yield not twice, f"two steps are called '{(twice or [''])[0]}'; give each a 'name' of its own"
    yield wanted != 1, "'classes' has 1 entry; two are the fewest that can be told apart"
    yield len({c.folder for c in classes}) == wanted, "'classes' names a folder twice"
    outputs = recipe.head.model.arguments.get("num_classes", wanted)
    yield (
        not classes or outputs == wanted,
        (
            f"'model.arguments.num_classes' is {outputs}, but 'classes' has {wanted} entries; "
            "leave it out, it is filled in"
        ),
    )
    yield from _data(recipe.head.data)
    yield from _augment(recipe.head.augment)
    for step in recipe.steps:
        yield from _step(step, recipe.head.augment)
    for before, after in pairwise(recipe.steps):
        yield (
            not isinstance(before, QuantizeStep) or isinstance(after, QuantizeStep | BuildStep),
            f"step '{after.name}' would undo what '{before.name}' trained for int8; quantize last",
        )


def _data(data: DataSpec) -> _Rules:
    yield data.limit >= 0, f"'data.limit' must be at least 0, got {data.limit}"
    share = data.validation_share
    yield 0 <= share < 1, f"'data.validation_share' must be in [0, 1), got {share}"
    yield data.memory >= 0, f"'data.memory' is in GiB, at least 0, got {data.memory}"
    yield data.buffer > 0, f"'data.buffer' must be at least 1 image, got {data.buffer}"
    yield (
        share > 0 or data.train not in ("", "."),
        "'data.train' is the top, where the classes are: give 'data.validation_share'",
    )
    yield (
        share > 0 or data.train != data.validation,
        (
            f"'data.train' and 'data.validation' are both '{data.train}': accuracy would be "
            "measured on what was learned"
        ),
    )


def _augment(augment: Augment) -> _Rules:
    yield augment.views >= 0, f"'augment.views' must be at least 0, got {augment.views}"
    yield 0 < augment.min_area <= 1, f"'augment.min_area' must be in (0, 1], got {augment.min_area}"
    yield augment.max_ratio >= 1, f"'augment.max_ratio' must be at least 1, got {augment.max_ratio}"
    for name in ("mirror", "brightness", "contrast", "saturation", "erase"):
        value = getattr(augment, name)
        yield 0 <= value <= 1, f"'augment.{name}' must be in [0, 1], got {value}"
    yield 0 <= augment.hue <= 0.5, f"'augment.hue' must be in [0, 0.5], got {augment.hue}"
    yield augment.pad >= 0, f"'augment.pad' must be at least 0, got {augment.pad}"
    for name in ("mixup", "cutmix"):
        value = getattr(augment, name)
        yield value >= 0, f"'augment.{name}' must be at least 0, got {value}"


def _step(step: Step, augment: Augment) -> _Rules:
    name = step.name
    plain = name not in ("", ".", "..") and "/" not in name and "\\" not in name
    yield plain, f"'{name}' is no name for a step; it becomes a folder's name"
    if isinstance(step, BuildStep):
        return
    yield from _fit(step.fit, f"step '{name}': fit")
    yield (
        step.kind != "distill" or step.distill is not None,
        (f"step '{name}' distills, but has no [steps.distill] with its teachers"),
    )
    if step.distill is not None:
        yield from _distill(step.distill, augment, f"step '{name}': distill")
        yield (
            not (step.fit.compile and step.distill.features),
            f"step '{name}': features are looked at layer by layer, which a compiled network does "
            "not have; set compile = false",
        )
    if isinstance(step, PruneStep):
        yield from _prune(step)
    if isinstance(step, QuantizeStep):
        yield 0 <= step.freeze_observers <= 1, f"step '{name}': freeze_observers must be in [0, 1]"
        yield (
            0 <= step.freeze_batch_norm <= 1,
            f"step '{name}': freeze_batch_norm must be in [0, 1]",
        )
        yield from _quantize(step)


def _quantize(step: QuantizeStep) -> _Rules:
    name = f"step '{step.name}'"
    yield (
        not step.fit.stages,
        f"{name}: int8 ranges are those of the image contract's size; give 'epochs', not 'stages'",
    )
    yield not step.fit.compile, f"{name}: ranges change each step; leave 'compile' out"
    yield (
        step.distill is None or not step.distill.features,
        f"{name}: what is trained for int8 has other layers; distil its answers, not features",
    )


def _fit(fit: Fit, name: str) -> _Rules:
    yield not (fit.epochs and fit.stages), f"{name}: give 'epochs' or 'stages', not both"
    yield all(s.epochs >= 0 for s in fit.sizes), f"{name}: epochs must be at least 0"
    yield all(s.size > 0 for s in fit.stages), f"{name}: a stage's size is at least 1 pixel"
    yield fit.learning_rate > 0, f"{name}: learning_rate must be above 0, got {fit.learning_rate}"
    yield fit.batch > 0, f"{name}: batch must be at least 1, got {fit.batch}"
    yield fit.reference_batch >= 0, f"{name}: reference_batch must be at least 0"
    yield fit.accumulate > 0, f"{name}: accumulate must be at least 1, got {fit.accumulate}"
    yield (
        fit.batch % max(fit.accumulate, 1) == 0,
        (f"{name}: batch {fit.batch} cannot be computed in {fit.accumulate} equal parts"),
    )
    yield fit.weight_decay >= 0, f"{name}: weight_decay must be at least 0"
    yield fit.clip_norm >= 0, f"{name}: clip_norm must be at least 0"
    yield fit.patience >= 0, f"{name}: patience must be at least 0"
    yield fit.save_every_s >= 0, f"{name}: save_every_s must be at least 0"
    for key in ("momentum", "smoothing", "average_decay"):
        value = getattr(fit, key)
        yield 0 <= value < 1, f"{name}: {key} must be in [0, 1), got {value}"
    yield (
        0 <= fit.warmup_epochs <= fit.total_epochs,
        (f"{name}: warmup_epochs is {fit.warmup_epochs}, of {fit.total_epochs} epochs"),
    )


def _distill(distill: Distill, augment: Augment, name: str) -> _Rules:
    yield bool(distill.teachers), f"{name}: there are no teachers"
    yield distill.temperature > 0, f"{name}: temperature must be above 0"
    yield 0 <= distill.alpha <= 1, f"{name}: alpha must be in [0, 1], got {distill.alpha}"
    yield all(t.weight > 0 for t in distill.teachers), f"{name}: a teacher's weight is above 0"
    yield all(t.size >= 0 for t in distill.teachers), f"{name}: a teacher's size is at least 0"
    for teacher in distill.teachers:
        lengths = {len(teacher.mean), len(teacher.std)}
        yield (
            lengths in ({0}, {3}) and all(value > 0 for value in teacher.std),
            f"{name}: 'mean' and 'std' have three numbers each, those of 'std' above 0, or neither "
            f"is given; teacher '{teacher.source}' has {teacher.mean} and {teacher.std}",
        )
    if distill.cache:
        mixes = augment.mixup or augment.cutmix
        yield (
            augment.views > 0 and not mixes,
            (
                f"{name}: stored answers need a fixed number of views ('augment.views' above 0), "
                "and neither MixUp nor CutMix; or ask the teachers anew with cache = false"
            ),
        )
        yield not distill.features, f"{name}: features are not stored; say cache = false"


def _prune(step: PruneStep) -> _Rules:
    name = f"step '{step.name}'"
    yield step.rounds > 0, f"{name}: rounds must be at least 1, got {step.rounds}"
    if step.method == "channels":
        yield (
            sum(0 < share < 1 for share in (step.macs, step.parameters, step.latency)) == 1,
            (
                f"{name}: give one of macs, parameters and latency, as what shall be left of it, "
                "in (0, 1)"
            ),
        )
    elif step.method == "n:m":
        yield 0 < step.n < step.m, f"{name}: n must be in 1 to m - 1, got {step.n}:{step.m}"
    else:
        yield 0 < step.sparsity < 1, f"{name}: sparsity must be in (0, 1), got {step.sparsity}"
    yield 0 <= step.least < 1, f"{name}: least must be in [0, 1), got {step.least}"
    yield step.round_to > 0, f"{name}: round_to must be at least 1, got {step.round_to}"
    yield step.penalty >= 0, f"{name}: penalty must be at least 0"
    yield step.method != "l1" or step.penalty > 0, f"{name}: l1 needs a penalty above 0"
    yield (
        step.method == "lottery" or not (step.reinitialise or step.shuffle or step.rewind_epoch),
        (f"{name}: rewind_epoch, reinitialise and shuffle are of the method lottery"),
    )
    yield step.rewind_epoch >= 0, f"{name}: rewind_epoch must be at least 0"
    yield (
        not step.rewind_epoch or step.rewind_epoch < step.fit.total_epochs,
        (f"{name}: rewind_epoch is {step.rewind_epoch}, of {step.fit.total_epochs} epochs"),
    )
