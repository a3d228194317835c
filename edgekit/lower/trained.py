"""Networks that were trained for int8: when a build takes the integers that training ended with."""

from collections.abc import Mapping

from edgekit.checkpoint import Range
from edgekit.errors import InputError
from edgekit.lower.int8.quantise import Ptq
from edgekit.lower.int8.ranges import scheme_of
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan

FROM_TRAINING = "trained for int8: its ranges are those of training, nothing was calibrated"
ANEW = "trained for int8, but calibrated anew, as --observer asked: not the integers of training"


def ranges_of(plan: Plan, network: Network, budget: bool = False) -> Mapping[str, Range] | None:
    """The ranges that this build takes from training; None where it has to calibrate, or is float.

    Args:
        plan: says the precision, the scheme, and what is to be done otherwise than usual.
        network: has the ranges, if there are any.
        budget: whether top-1 is held to one.

    Raises:
        InputError: the target wants another scheme, or what is asked for is for calibration.
    """
    if plan.precision != "int8" or not network.ranges or plan.ptq.observer != "auto":
        return None
    anew = "or calibrate anew with --observer minmax"
    trained, wanted = scheme_of(network.ranges), plan.target.scheme
    if trained != wanted:
        raise InputError(
            f"'{network.name}' was trained for int8 with {trained} activations, and "
            f"{plan.target.name} with {plan.target.backend} takes {wanted} ones: quantize it with "
            f'scheme = "{wanted}" in the recipe, build --precision fp16, {anew} (other integers '
            "than training ended with)"
        )
    if plan.ptq != Ptq() or budget:
        raise InputError(
            f"'{network.name}' was trained for int8, and its integers are final: leave out "
            f"--keep-float, --correct-bias and --max-drop, {anew}"
        )
    return network.ranges


def notes_of(plan: Plan, network: Network) -> tuple[str, ...]:
    """Where an int8 build's ranges come from, for people; empty if it was calibrated as usual."""
    if plan.precision != "int8" or not network.ranges:
        return ()
    return (FROM_TRAINING if plan.ptq.observer == "auto" else ANEW,)
