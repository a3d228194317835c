"""What the process that converts is told, as JSON in a folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """How one program becomes a package; beside it lies `program.pt2`."""

    name: str
    precision: str
    height: int
    """Pixels."""
    width: int
    input: str
    outputs: tuple[str, ...]
    half: bool
    """Compute in float16."""
    deployment_target: str
    labels: tuple[str, ...]
    """No two the same; empty: no classifier, and the program has no softmax at its end."""
    image: str
    """The image contract, JSON."""

    def write(self, folder: Path, model: Path) -> None:
        """Into `folder`, with where the package shall be."""
        content = {"job": asdict(self), "model": str(model.resolve())}
        (folder / "job.json").write_text(json.dumps(content), encoding="utf-8")


def read(folder: Path) -> tuple[Job, Path]:
    """The job, and where the package shall be."""
    content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    given = content["job"]
    given["outputs"], given["labels"] = tuple(given["outputs"]), tuple(given["labels"])
    return Job(**given), Path(content["model"])
