"""On which cores things run; each in a process of its own, because it stays so."""

import json
import os
import subprocess
import sys

import pytest

from edgekit.bundle import Bundle
from edgekit.spec import LoopOptions, Target
from edgekit.values import parse

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)


def answer(code: str, *arguments: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", f"import json, os, sys\n{code}", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


PINNED = """
from edgekit.device.capture.cores import pin
found = []
for cores in json.loads(sys.argv[1]):
    pin(cores)
    found.append(sorted(os.sched_getaffinity(0)))
print(json.dumps(found))
"""


def test_cores_that_are_not_there_are_ignored() -> None:
    every = sorted(os.sched_getaffinity(0))
    first, second = every[:2]
    wanted = [[first], [], [second, 4000], [4000]]
    assert answer(PINNED, json.dumps(wanted)) == [[first], every, [second], every]


LOOP = """
import dataclasses, threading
from contextlib import closing
from pathlib import Path
from edgekit import bundle
from edgekit.device.capture import supply
from edgekit.device.loop import Loop
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.spec import LoopOptions
first, second = json.loads(sys.argv[2])
opened = bundle.read(Path(sys.argv[1]))
options = LoopOptions(cores=(first,), capture_cores=(second,))
opened = dataclasses.replace(opened, manifest=dataclasses.replace(opened.manifest, loop=options))
with closing(open_session(opened)) as session, closing(open_camera(
    "synthetic://64x48@30?pace=fast", options
)) as camera, Loop(opened, session, camera) as loop:
    next(iter(loop))
    (capture,) = [t for t in threading.enumerate() if t.name == "capture"]
    print(json.dumps([sorted(os.sched_getaffinity(0)),
                      sorted(os.sched_getaffinity(capture.native_id))]))
"""


def test_a_bundle_says_where_to_infer_and_where_to_capture(bundle: Bundle) -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    found = answer(LOOP, str(bundle.path), json.dumps([first, second]))
    assert found == [[first], [second]]


def test_a_target_file_may_say_it() -> None:
    table = {"capture": "process", "cores": [2, 3], "capture_cores": [0], "overlap": True}
    target = parse(
        Target,
        {
            "name": "mine", "summary": "a board", "backend": "litert", "precision": "int8",
            "scheme": "affine", "camera": "v4l2://0", "loop": table,
        },
        "mine.toml",
    )  # fmt: skip
    assert target.loop == LoopOptions("process", (2, 3), (0,), True)
