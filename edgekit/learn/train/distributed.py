"""Several processes that train one network: how they meet, agree, wait and end together.

`torchrun` starts them and says in the environment who is who. Gradients and batch norm's
statistics go through torch's collectives (see `sync`), which fail when a process has been silent
for `PATIENCE`. What may take long (decoding images, measuring, a teacher's answers) waits at a
key-value store instead, without an end, and hears there when another process has ended.
"""

import json
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from edgekit.checkpoint import digest
from edgekit.errors import EdgekitError, InputError, NetworkUnavailable
from edgekit.learn.train.place import Place, Seat, choose_device, seat

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""How long one process waits for another to arrive, and within a training step."""
_BUG = 70


@contextmanager
def joined(device: str = "") -> Iterator[Place]:
    """Take this process's place among the others, if there are others, until the block ends.

    An error in one process ends all of them with its exit code. It is raised in that one alone, or
    where several had one, in the first; the others end silently (`SystemExit`).

    Args:
        device: see `choose_device`.

    Raises:
        InputError: the environment or the device does not fit.
        NetworkUnavailable: the others did not arrive, or one is gone.
    """
    here = seat(os.environ)
    chosen = choose_device(device, here)
    if here.world == 1:
        yield Place(chosen)
        return
    peers = _join(here, chosen)
    try:
        yield Place(chosen, here.rank, here.world, peers)
        peers.each("done")  # the first process may lend the store: it is the last to leave
    except BaseException as error:
        peers.end(error)
    dist.destroy_process_group()


def _join(here: Seat, device: torch.device) -> "Together":
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        shared, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        store = _meet(shared, here)
        dist.init_process_group(
            backend, store=store, rank=here.rank, world_size=here.world, timeout=PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise NetworkUnavailable(
            f"process {here.rank} of {here.world} could not meet the others at {where}: "
            f"{str(error).splitlines()[0]}; see that all were started, and that a firewall lets "
            "the machines reach each other"
        ) from error
    return Together(PrefixStore("edgekit", store), here)


def _meet(store: Store, here: Seat) -> Store:
    """A part of the store for these processes alone.

    torchrun lends the same store again when it restarts the processes, with what those before have
    written. So the first one names the part anew, and tells each of the others in answer to a
    question that only it can have asked.
    """
    deadline = time.monotonic() + PATIENCE.total_seconds()
    token = uuid.uuid4().hex
    if here.rank:
        store.set(f"asked/{here.rank}", token)
        if not _is_set(store, f"answer/{token}", PATIENCE.total_seconds()):
            raise RuntimeError(f"the first process did not arrive within {PATIENCE}")
        name = store.get(f"answer/{token}").decode()
        store.set(f"heard/{name}/{here.rank}", "")
        return PrefixStore(name, store)
    absent = list(range(1, here.world))
    while absent:
        for rank in absent:
            if store.check([f"asked/{rank}"]):
                store.set(f"answer/{store.get(f'asked/{rank}').decode()}", token)
        time.sleep(0.02)
        absent = [rank for rank in absent if not store.check([f"heard/{token}/{rank}"])]
        if absent and time.monotonic() > deadline:
            raise RuntimeError(f"process {absent[0]} did not arrive within {PATIENCE}")
    return PrefixStore(token, store)


class Together:
    """The processes of a run, through a store that all of them reach.

    What is stored is pickled: the machines of a run trust each other, as they do under torchrun.
    """

    def __init__(self, store: Store, here: Seat) -> None:
        self._store, self._here = store, here
        self._calls = 0

    def first(self, make: Callable[[], T]) -> T:
        key = self._next()
        if self._here.rank:
            found: T = pickle.loads(self._await(key))
            return found
        made = make()
        self._store.set(key, pickle.dumps(made))  # type: ignore[arg-type]  # so says the stub
        return made

    def each(self, value: str) -> list[str]:
        key = self._next()
        self._store.set(f"{key}/{self._here.rank}", value)
        return [self._await(f"{key}/{rank}").decode() for rank in range(self._here.world)]

    def end(self, error: BaseException) -> NoReturn:
        """Tell the others how this one ends.

        Raises:
            BaseException: `error` itself.
            NetworkUnavailable: `error` was that another process is gone.
            SystemExit: another process has ended before, with this exit code.
        """
        if isinstance(error, dist.DistError | ConnectionError) or (
            isinstance(error, RuntimeError) and "gloo" in str(error).lower()
        ):
            error = _gone(error)
            with suppress(dist.DistError):
                _is_set(self._store, "ended", seconds=2)  # whoever ended said so before it went
        mine = said = json.dumps([self._here.rank, _exit_code(error)])
        with suppress(dist.DistError):  # the process that lent the store is gone, too
            said = self._store.compare_set("ended", "", mine).decode()
        with suppress(dist.DistError):
            self._see_each_other_off(said == mine)
        if said != mine:
            raise SystemExit(json.loads(said)[1]) from error
        raise error

    def _see_each_other_off(self, begins: bool) -> None:
        """The one that ends first waits a moment for the others: it may be the store's host.

        Those that wait for a call hear of the end at once; those in a collective only when a
        process is gone.
        """
        self._store.set(f"heard/{self._here.rank}", "")
        if begins:
            for rank in range(self._here.world):
                if not _is_set(self._store, f"heard/{rank}", seconds=2):
                    break

    def _next(self) -> str:
        self._calls += 1
        return f"call/{self._calls}"

    def _await(self, key: str) -> bytes:
        while not _is_set(self._store, key, seconds=1):
            if self._store.check(["ended"]):
                raise ConnectionError("another process ended")
        return self._store.get(key)


def _is_set(store: Store, key: str, seconds: float) -> bool:
    """Whether `key` is in the store, or is so within some time. Lets signals through."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not store.check([key]):
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


def _gone(error: BaseException) -> NetworkUnavailable:
    gone = NetworkUnavailable(
        "another process of this run is gone, or was silent for "
        f"{PATIENCE.total_seconds() / 60:.0f} minutes ({str(error).splitlines()[0]}); the same "
        "command goes on from what was saved last, as 'torchrun --max-restarts 3' does by itself"
    )
    gone.__cause__ = error
    return gone


def _exit_code(error: BaseException) -> int:
    match error:
        case EdgekitError():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case KeyboardInterrupt():
            return 130
    return _BUG


def first_makes(place: Place, make: Callable[[], object]) -> None:
    """Have the first process make a file; the others wait until it is there, and may read it."""

    def made() -> None:
        make()

    place.peers.first(made)


def agree(place: Place, value: str, what: str) -> None:
    """Hold all processes to the same `value`, which `what` names; waits for the last.

    Raises:
        InputError: they differ.
    """
    found = place.peers.each(value)
    differing = [rank for rank, other in enumerate(found) if other != found[0]]
    if differing:
        raise InputError(
            f"{what} is not the same in process {differing[0]} as in process 0, of {place.world}; "
            "give all machines the same recipe, data and versions, and with -o a folder on a file "
            "system that they share"
        )


def agree_on_file(place: Place, path: Path) -> None:
    """Hold all processes to the same file, or none; raises InputError as `agree`."""
    if place.world > 1:
        agree(place, digest(path) if path.exists() else "none", str(path))
