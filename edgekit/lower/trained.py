"""Networks that were trained for int8: when a build takes the integers that training ended with."""

from collections.abc import Mapping

from edgekit.checkpoint import Range
from edgekit.lower.int8.quantise import Ptq
from edgekit.lower.int8.ranges import scheme_of
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan

FROM_TRAINING = "trained for int8: its ranges are those of training, nothing was calibrated"
ANEW = "trained for int8, but calibrated anew, because {}: not the integers of training"


def ranges_of(plan: Plan, network: Network) -> Mapping[str, Range] | None:
    """The ranges that this build takes from training; None where it has to calibrate, or is float.

    Args:
        plan: says the precision, the scheme, and what is to be done otherwise than usual.
        network: has the ranges, if there are any.
    """
    if plan.precision != "int8" or not network.ranges or _why_anew(plan, network):
        return None
    return network.ranges


def notes_of(plan: Plan, network: Network) -> tuple[str, ...]:
    """Where an int8 build's ranges come from, for people; empty if it was calibrated as usual."""
    if plan.precision != "int8" or not network.ranges:
        return ()
    why = _why_anew(plan, network)
    return (ANEW.format(why) if why else FROM_TRAINING,)


def _why_anew(plan: Plan, network: Network) -> str:
    """Empty: the integers of training are what is wanted."""
    had, wanted = scheme_of(network.ranges), plan.target.scheme
    if had != wanted:
        return (
            f"{plan.target.name} with {plan.target.backend} takes {wanted} activations, and it "
            f"learned with {had} ones"
        )
    if plan.ptq != Ptq() or plan.limited:
        return "an option asks for other integers"
    return ""
