"""Where a run takes place: which device, which of how many processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist

from edgekit.errors import InputError

T = TypeVar("T")


class Peers(Protocol):
    """All processes of a run. Each call is made by every one of them, in the same order."""

    def first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process; the others do not call it, and wait."""

    def each(self, value: str) -> list[str]:
        """Everybody's `value`, in the order of ranks; waits for the last."""


class Alone:
    """A run of one process."""

    def first(self, make: Callable[[], T]) -> T:
        return make()

    def each(self, value: str) -> list[str]:
        return [value]


@dataclass(frozen=True, slots=True)
class Place:
    """One process of a run."""

    device: torch.device
    rank: int = 0
    """Of this process, from 0; the first one measures and writes."""
    world: int = 1
    """How many processes there are."""
    peers: Peers = field(default_factory=Alone, compare=False, repr=False)

    @property
    def leads(self) -> bool:
        return self.rank == 0


HERE = Place(torch.device("cpu"))
"""The only process, on the CPU."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What the environment says of this process."""

    rank: int
    world: int
    local: int
    """Among the processes of this machine, from 0: which GPU it takes."""


def seat(environment: Mapping[str, str]) -> Seat:
    """Read `RANK`, `WORLD_SIZE` and `LOCAL_RANK`; without them it is the only process.

    Raises:
        InputError: some are missing, or make no sense.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not any(environment.get(name) for name in names[:2]):
        return Seat(0, 1, 0)
    wanted = (*names[:2], "MASTER_ADDR", "MASTER_PORT")
    found = {name: environment[name] for name in (*wanted, names[2]) if environment.get(name)}
    absent = [name for name in wanted if name not in found]
    if absent:
        raise InputError(
            f"the environment has {', '.join(n for n in names if n in found)}, but not "
            f"{' and '.join(absent)}; start several processes with 'torchrun --nproc-per-node N "
            "-m edgekit train RECIPE', which sets them all, or unset RANK and WORLD_SIZE"
        )
    numbers = [found.get(name, "0") for name in (*names, "MASTER_PORT")]
    if not all(number.isdecimal() for number in numbers) or int(numbers[0]) >= int(numbers[1]):
        raise InputError(
            f"RANK={numbers[0]}, WORLD_SIZE={numbers[1]}, LOCAL_RANK={numbers[2]} and "
            f"MASTER_PORT={numbers[3]} in the environment must be whole numbers, RANK below "
            "WORLD_SIZE; 'torchrun' sets them"
        )
    return Seat(*(int(number) for number in numbers[:3]))


def choose_device(name: str, here: Seat) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, `mps`; where `name` is empty or `auto`, CUDA if there is any.

    Raises:
        InputError: there is none, fewer GPUs than processes, or no NCCL to join them.
    """
    kind, _, number = name.partition(":")
    if kind not in ("", "auto", "cpu", "cuda", "mps") or (number and kind != "cuda"):
        raise InputError(f"no device '{name}' to train on; there are: auto, cpu, cuda, cuda:N, mps")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "mps":
        return _mps(here)
    if kind == "cuda" and not gpus:
        raise InputError(
            "training on 'cuda' needs an NVIDIA GPU that torch can use, and it sees none "
            f"(torch {torch.__version__}); several processes on CPUs talk through gloo instead of "
            "NCCL: take the device 'cpu', or install a CUDA build of torch"
        )
    return _cuda(number, gpus, here) if gpus and kind != "cpu" else torch.device("cpu")


def _cuda(number: str, gpus: int, here: Seat) -> torch.device:
    if here.world > 1 and (number or not dist.is_nccl_available()):
        raise InputError(
            f"device 'cuda:{number}' is one GPU, and there are {here.world} processes: say 'cuda', "
            "and each takes one of its own"
            if number
            else "this build of torch has no NCCL, by which processes on GPUs talk; train in one "
            "process, or take the device 'cpu'"
        )
    if number and not (number.isdecimal() and int(number) < gpus):
        raise InputError(f"no device 'cuda:{number}': the {gpus} GPUs count from cuda:0")
    if here.local >= gpus:
        raise InputError(
            f"process {here.local} of this machine, counted from 0, has no GPU: there are {gpus}; "
            f"start 'torchrun --nproc-per-node {gpus}', or take the device 'cpu'"
        )
    return torch.device("cuda", int(number) if number else here.local)


def _mps(here: Seat) -> torch.device:
    if here.world > 1 or not torch.backends.mps.is_available():
        raise InputError(
            "training on 'mps' needs a Mac with Apple's GPU, and one process alone; take the "
            "device 'cpu'"
        )
    return torch.device("mps")
