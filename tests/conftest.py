"""What every test may ask for."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgekit.bundle import Accuracy, Golden, Hop, Manifest, Provenance, Tolerance, seal
from edgekit.spec import ImageSpec, SessionOptions, TensorSpec
from tests.virtual_camera import ROOT, Seeing, VirtualCamera

# A shell starts what it puts in the background with Ctrl-C ignored, nohup with SIGHUP, and children
# inherit that; the tests that interrupt a program want it as a terminal would start it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real weights, images and videos, which lie outside of the repository; skips without them.

    `EDGEKIT_SHARED` names another folder than `../shared/data`.
    """
    folder = Path(os.environ.get("EDGEKIT_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no shared data in {folder} (EDGEKIT_SHARED names another folder)")
    return folder


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """A manifest that keeps its laws, of a model of 4x4 pixels and three classes."""
    tolerance = Tolerance(0.5, 20.0, 1.0)
    return Manifest(
        schema=1,
        name="fake",
        target="linux",
        backend="onnx",
        precision="fp32",
        scheme="affine",
        model="model.onnx",
        inputs=(TensorSpec("image", (1, 4, 4, 3), "uint8"),),
        outputs=(TensorSpec("logits", (1, 3), "float32"),),
        image=ImageSpec(4, 4, crop_fraction=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        decoding="softmax",
        labels="labels.txt",
        session=SessionOptions(threads=1, providers=("CPUExecutionProvider",)),
        golden=(Golden("golden/0.png", "golden/0_input.npy", "golden/0_output.npy"),),
        golden_tolerance=tolerance,
        parity=(Hop("eager -> exported", 8, 1e-6, 120.0, 1.0, tolerance),),
        accuracy=Accuracy(0.5, 10, "ten made-up images"),
        provenance=Provenance("fake", {"width": 0.5}, "0" * 64, "", 0, "0" * 64, {"edgekit": "0"}),
        notes=("the model is made up",),
    )


@pytest.fixture(scope="session")
def make_bundle(manifest: Manifest) -> Callable[[Path], Path]:
    """Writes a small bundle whose model is fake bytes: enough for all that handles the format."""

    def make(folder: Path) -> Path:
        (folder / "golden").mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bytes(range(256)))
        (folder / "labels.txt").write_bytes("cat\ncat\nchâteau\n".encode())
        for name in ("0.png", "0_input.npy", "0_output.npy"):
            (folder / "golden" / name).write_bytes(name.encode())
        (folder / "README.md").write_bytes(b"# A model that is made up\n")
        (folder / "report.json").write_bytes(b"{}\n")
        (folder / "report.html").write_bytes(b"<!doctype html>\n")
        seal(folder, manifest)
        return folder

    return make


@dataclass
class FileServer:
    """Files on loopback, and how they are served badly."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    """For the next answers: after how many bytes the connection is closed."""
    answers: list[int] = field(default_factory=list)
    """For the next requests: a status instead of the file."""
    stall: float = 0.0
    """Seconds to wait before the body."""
    ranges: bool = True
    etags: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """`PATH RANGE` of each request."""

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "")
        self.asked.append(f"{handler.path} {wanted}".strip())
        if self.answers and (status := self.answers.pop(0)):
            return handler.send_error(status)
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        if handler.path not in self.files:
            return handler.send_error(404)
        return self._send(handler, self.files[handler.path], wanted)

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, wanted: str) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = int(wanted[len("bytes=") :].rstrip("-")) if wanted and self.ranges else 0
        if handler.headers.get("If-Range", etag) != etag:
            start = 0
        if start and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        handler.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            handler.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        if self.etags:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        time.sleep(self.stall)
        cut = self.cuts.pop(0) if self.cuts else len(content)
        handler.wfile.write(content[start : start + cut])
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """An HTTP server on loopback that does as its `FileServer` says."""
    served = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):  # a client that gave up
                served.serve(self)

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield served
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def virtual_camera_library() -> str:
    """The library to preload, compiled; skips without Linux or a C compiler."""
    if sys.platform != "linux" or not shutil.which(os.environ.get("CC", "cc")):
        pytest.skip("the virtual camera needs Linux and a C compiler (cc)")
    run = ROOT / "scripts" / "virtual_camera" / "run"
    built = subprocess.run([run, "--build"], check=True, capture_output=True, text=True)
    return built.stdout.strip()


@pytest.fixture(scope="session")
def seeing(
    virtual_camera_library: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seeing]:
    """What runs the tests marked `virtual_camera`."""
    control = os.environ.get("VIRTUAL_CAMERA_CONTROL") or tmp_path_factory.mktemp("camera") / "is"
    there = Seeing(VirtualCamera(virtual_camera_library, Path(control)))
    yield there
    there.close()


@pytest.fixture
def virtual_camera(seeing: Seeing, request: pytest.FixtureRequest) -> VirtualCamera:
    """A virtual camera for processes that are given its `environment`.

    A test marked `@pytest.mark.virtual_camera(setting=value)` runs in such a process itself.
    """
    marker = request.node.get_closest_marker("virtual_camera")
    seeing.camera.set(**(marker.kwargs if marker else {}))
    return seeing.camera


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Hand a test marked `virtual_camera`, which asks for `seeing`, to the process that sees one.

    A library can be preloaded only where a process starts.
    """
    if not pyfuncitem.get_closest_marker("virtual_camera"):
        return None
    seeing = pyfuncitem.funcargs["seeing"]
    assert isinstance(seeing, Seeing)
    if os.environ.get("LD_PRELOAD") == seeing.camera.library:
        return None
    code, said = seeing.run(pyfuncitem.nodeid)
    if code:
        pytest.fail(said, pytrace=False)
    if " skipped" in said.splitlines()[-1]:
        pytest.skip(said)
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `virtual_camera` need not ask for what runs it."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("virtual_camera"):
            item.fixturenames.extend(("virtual_camera", "seeing"))
