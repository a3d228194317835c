"""Write and read an `.mlpackage`: a folder with the program, its weights and a manifest.

    model.mlpackage/
      Manifest.json                                    which item is the model, by id
      Data/com.apple.CoreML/model.mlmodel              a protobuf message, `Model`
      Data/com.apple.CoreML/weights/weight.bin         the large constants

The ids are random where Apple's tools write it; here they are made of what the items hold, so that
equal programs give equal bytes.
"""

import hashlib
import json
import shutil
import uuid
from pathlib import Path

from edgekit.errors import BundleError

AUTHOR = "com.apple.CoreML"
MODEL = f"{AUTHOR}/model.mlmodel"
WEIGHTS = f"{AUTHOR}/weights"


def write(package: Path, program: bytes, weights: Path) -> None:
    """Write the folder `package`, which must not exist.

    Args:
        package: ends in `.mlpackage`.
        program: the serialised `Model`.
        weights: folder whose files are copied; may be absent.
    """
    data = package / "Data"
    (data / WEIGHTS).mkdir(parents=True)
    (data / MODEL).write_bytes(program)
    digest = hashlib.sha256(program)
    for source in sorted(weights.iterdir()) if weights.is_dir() else ():
        shutil.copyfile(source, data / WEIGHTS / source.name)
        digest.update(source.read_bytes())
    ids = {path: _id(path, digest.digest()) for path in (MODEL, WEIGHTS)}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            ids[MODEL]: _item(MODEL, "CoreML Model Specification"),
            ids[WEIGHTS]: _item(WEIGHTS, "CoreML Model Weights"),
        },
        "rootModelIdentifier": ids[MODEL],
    }
    text = json.dumps(manifest, indent=4, sort_keys=True) + "\n"
    (package / "Manifest.json").write_text(text, encoding="utf-8")


def read(package: Path) -> tuple[bytes, Path]:
    """The serialised `Model` of a package, and the folder of its weights.

    Raises:
        BundleError: it cannot be read, or is no such package.
    """
    try:
        if package.is_file():
            raise BundleError(
                f"Core ML refuses the model {package}: it is a file, and a package is a folder"
            )
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        model = package / "Data" / root
        if not model.resolve().is_relative_to(package.resolve()):
            raise BundleError(f"Core ML refuses the model {package}: {root!r} lies outside of it")
        return model.read_bytes(), model.parent / "weights"
    except OSError as error:
        raise BundleError(f"cannot read the model {package}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"Core ML refuses the model {package}: its Manifest.json names no model"
        ) from error


def _item(path: str, description: str) -> dict[str, str]:
    name = path.rpartition("/")[2]
    return {"author": AUTHOR, "description": description, "name": name, "path": path}


def _id(path: str, digest: bytes) -> str:
    content = hashlib.sha256(path.encode() + digest).digest()
    return str(uuid.UUID(bytes=content[:16], version=4)).upper()
