"""WebDataset shards as numbered images: found, indexed, and read by their place in the files."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgekit.errors import InputError
from edgekit.learn.data.ahead import in_order, threads_here
from edgekit.learn.data.decode import Encoded
from edgekit.learn.data.tar import Index, index


def find(path: Path, split: str) -> list[Path]:
    """The split's shards, sorted: `SPLIT-000000.tar` ..., `SPLIT.tar`, or `SPLIT/*.tar`.

    Raises:
        InputError: there are only compressed ones.
    """
    if not path.is_dir():
        return []
    plain = re.compile(rf"{re.escape(split)}([-_.]?\d+)?\.tar")
    packed = re.compile(plain.pattern + r"\.?(gz|xz|bz2|zst)|.*\.tgz")
    files = [file for file in path.iterdir() if file.name.startswith(split)]
    inner = list((path / split).glob("*.tar")) if split else []
    found = sorted(file for file in files if plain.fullmatch(file.name)) + sorted(inner)
    closed = [file for file in files if packed.fullmatch(file.name)]
    if closed and not found:
        raise InputError(
            f"the shard {closed[0]} is compressed, so no place in it can be found; unpack it (its "
            "images are compressed already)"
        )
    return found


class Shards:
    """The samples of several shards, numbered in the order of the files' names; see `Store`.

    Holds 32 bytes a sample, and no image.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Index the shards that have no index yet.

        Raises:
            InputError: one is missing, damaged, or has a sample without image or label.
        """
        found: list[Index] = []
        found.extend(in_order(index, paths, 2 * threads_here(), 8, "index"))
        counts = [len(one.offsets) for one in found]
        self._paths = tuple(paths)
        self._shard = np.repeat(np.arange(len(found)), counts)
        self._offsets = np.concatenate([one.offsets for one in found])
        self._sizes = np.concatenate([one.sizes for one in found])
        self.classes = tuple(sorted({str(name) for one in found for name in one.classes}))
        """What the labels say: numbers, or classes' names."""
        place = {name: number for number, name in enumerate(self.classes)}
        tables = [np.array([place[str(name)] for name in one.classes], np.int64) for one in found]
        self.labels = np.concatenate(
            [table[one.labels] for table, one in zip(tables, found, strict=True)]
        )
        """(N,) int64: into `classes`."""
        self.digest = hashlib.sha256("".join(one.digest for one in found).encode()).hexdigest()
        """SHA-256 of the shards' own."""
        if not len(self._offsets):
            raise InputError(f"the shard {paths[0]} and {len(paths) - 1} more have no samples")

    def __len__(self) -> int:
        return len(self._offsets)

    def name(self, number: int) -> str:
        path = self._paths[self._shard[number]]
        return f"{path}: the image at byte {self._offsets[number]:,}"

    def read(self, number: int) -> bytes:
        return next(iter(self.read_many([number])))

    def read_many(self, numbers: Iterable[int]) -> Iterable[bytes]:
        """The bytes of several, in the order asked for; sequential where their numbers are.

        Raises:
            InputError: a shard is gone, or has changed since it was indexed.
        """
        shard, file = -1, None
        try:
            for number in numbers:
                if self._shard[number] != shard or file is None:
                    shard = int(self._shard[number])
                    if file is not None:
                        file.close()
                    file = self._paths[shard].open("rb")
                file.seek(int(self._offsets[number]))
                found = file.read(int(self._sizes[number]))
                if len(found) != self._sizes[number]:
                    raise InputError(
                        f"the shard {self._paths[shard]} became shorter while it was read; "
                        "leave shards as they are while training"
                    )
                yield found
        except OSError as error:
            raise InputError(
                f"cannot read the shard {self._paths[shard]}: {error.strerror}"
            ) from error
        finally:
            if file is not None:
                file.close()


class Sharded(Encoded):
    """Images that lie in shards, which are to be read one after the other."""

    def __init__(self, shards: Shards, numbers: np.ndarray, buffer: int) -> None:
        """See `Encoded`; so many are mixed at once as `buffer` says."""
        super().__init__(shards, numbers)
        self.buffer = buffer
        self._shards = shards

    def name(self, index: int) -> str:
        """What an error calls image `index`."""
        return self._shards.name(int(self.numbers[index]))

    def encoded(self, index: np.ndarray) -> list[bytes]:
        """The bytes of several images, read in the order of the files, in the order asked for."""
        places = np.argsort(self.numbers[index])
        found = [b""] * len(index)
        numbers = map(int, self.numbers[index[places]])
        for place, encoded in zip(places, self._shards.read_many(numbers), strict=True):
            found[place] = encoded
        return found
