import http.client
import json
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest

from edgekit.device.copies import Copies
from edgekit.device.outputs import _handler, _picture, _server
from edgekit.device.outputs._server import Server
from edgekit.device.outputs.http import LivePage
from edgekit.device.picture import Picture, bgr, layout, rgb
from edgekit.device.result import Result
from edgekit.device.stats import Stats
from edgekit.device.uri import open_output
from edgekit.errors import InputError, SourceUnavailable, SpecError

Make = Callable[..., Result]
TOKEN = "abcdefghijklmnop"


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def answer(self) -> Any:
        return json.loads(self.headers["Edgekit-Answer"])


def get(port: int, path: str, method: str = "GET", **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=sent)
        reply = connection.getresponse()
        return Reply(reply.status, reply.msg, reply.read())


@contextmanager
def opened(uri: str = "http://127.0.0.1:0", copies: Copies | None = None) -> Iterator[LivePage]:
    output = open_output(uri, copies or Copies())
    assert isinstance(output, LivePage)
    with closing(output):
        yield output
    assert [t for t in threading.enumerate() if t.name == "live page"] == []


@contextmanager
def running(page: LivePage, make: Make, *, picture: Picture | None = None) -> Iterator[None]:
    """Writes results, some hundred a second, until it is left."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.wait(0.005):
            assert page.write(make(number, picture))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def colour(jpeg: bytes) -> np.ndarray:
    """The mean colour of a JPEG: (3,), RGB."""
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    mean: np.ndarray = pixels.mean((0, 1))[::-1]
    return mean


def test_the_page_may_load_nothing_but_itself() -> None:
    with opened() as page:
        reply = get(page.port, "/")
    assert reply.status == 200
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'; img-src blob: data:; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    text = reply.body.decode().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?:|//[a-z]+\.|innerHTML|\sstyle=|\son[a-z]+=", text) == []
    for name, value in (
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ):
        assert reply.headers[name] == value
    assert "Set-Cookie" not in reply.headers


def test_the_url_is_printed_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with opened() as page:
        assert capsys.readouterr() == ("", f"live page: http://127.0.0.1:{page.port}/\n")


def test_a_picture_and_its_answer(make_result: Make) -> None:
    with opened() as page, running(page, make_result):
        first = get(page.port, "/picture.jpg")
        run, number = first.answer["run"], first.answer["number"]
        second = get(page.port, f"/picture.jpg?run={run}&after={number}")
        other_run = get(page.port, f"/picture.jpg?run=0&after={number + 1000}")
    assert (first.status, first.headers["Content-Type"]) == (200, "image/jpeg")
    assert np.abs(colour(first.body) - (200, 20, 20)).max() < 6
    assert second.answer["number"] > number
    assert other_run.status == 200
    assert first.answer["source"] == "synthetic://8x6@1"
    assert first.answer["predictions"][0]["label"] == "Château"


def yuv(of: str) -> Picture:
    """A red picture, 64 x 48."""
    pixels = np.full((48, 64, 3), (20, 20, 200), np.uint8)
    if of == "MJPEG":
        coded = cv2.imencode(".jpg", pixels)[1]
        return Picture("MJPEG", 64, 48, (coded,), full_range=True)
    planes = cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420)
    return layout("I420", 64, 48).over(np.ascontiguousarray(planes).ravel())


@pytest.mark.parametrize("of", ["RGB", "BGR", "I420", "MJPEG"])
def test_every_format_has_its_colours(make_result: Make, of: str) -> None:
    pixels = np.full((48, 64, 3), (200, 20, 20), np.uint8)
    given = {"RGB": lambda: rgb(pixels), "BGR": lambda: bgr(pixels[..., ::-1].copy())}
    picture = given[of]() if of in given else yuv(of)
    with opened() as page, running(page, make_result, picture=picture):
        reply = get(page.port, "/picture.jpg")
    assert np.abs(colour(reply.body) - (200, 20, 20)).max() < 8


@pytest.mark.parametrize(
    ("height", "width", "turns", "expected"),
    [
        (48, 64, 0, (48, 64)),
        (1000, 2000, 0, (100, 200)),
        (1000, 2000, 1, (200, 100)),
        (1, 4000, 0, (1, 200)),
    ],
)
def test_a_picture_is_made_smaller_and_upright(
    make_result: Make, height: int, width: int, turns: int, expected: tuple[int, int]
) -> None:
    picture = Picture("RGB", width, height, (np.zeros((height, width, 3), np.uint8),), turns=turns)
    uri = "http://127.0.0.1:0?width=200"
    with opened(uri) as page, running(page, make_result, picture=picture):
        reply = get(page.port, "/picture.jpg")
    decoded = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape[:2] == expected


def test_a_broken_jpeg_of_the_camera_is_passed_over(make_result: Make) -> None:
    broken = Picture("MJPEG", 64, 48, (np.frombuffer(b"\xff\xd8 no JPEG \xff\xd9", np.uint8),))
    with opened() as page:
        with running(page, make_result, picture=broken):
            assert get(page.port, "/picture.jpg").status == 204
        with running(page, make_result):
            assert get(page.port, "/picture.jpg").status == 200


def test_nothing_is_copied_while_nobody_watches(
    make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies()
    with opened(copies=copies) as page:
        with running(page, make_result):
            get(page.port, "/picture.jpg")
        before = copies.total("display")
        monkeypatch.setattr(_picture, "Preparer", None)
        monkeypatch.setattr(_picture.View, "_smaller", None)
        for number in range(500):
            assert page.write(make_result(number))
        get(page.port, "/")
        get(page.port, "/numbers.json")
        for number in range(500):
            assert page.write(make_result(number))
        assert copies.total("display") == before
        assert set(copies.by_reason) == {("display", "picture for the live page")}


def test_writing_keeps_nothing(make_result: Make) -> None:
    with opened() as page:
        for number in range(600):
            page.write(make_result(number))
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(600, 20_600):
                page.write(make_result(number))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 30_000  # one frame of the test's own, and a float or two


def test_pictures_are_made_at_a_bounded_rate(
    make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: ten seconds of a hundred frames each, with someone always waiting."""
    now = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    copies = Copies()
    encoder = _picture.Encoder()
    view = _picture.View(encoder, 640, 10, copies)
    view._waiting = 1
    made = []
    for number in range(1000):
        now = 10**10 + number * 10**7
        view.offer(make_result(number))
        while view._busy:
            time.sleep(0.0005)
        made.append(view._newest.number if view._newest else 0)
    encoder.close()
    assert 95 <= made[-1] <= 102
    small = 48 * 64 * 3
    assert copies.total("display") < made[-1] * (small * 5 + 4096)


def test_a_viewer_that_never_reads_stops_nobody(
    make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_handler, "_ANSWER_S", 1.0)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)  # large JPEGs
    encoded = []
    encode = _picture.View.encode

    def counted(view: _picture.View, picture: Picture, made: Result) -> None:
        encoded.append(made.frame.sequence)
        encode(view, picture, made)

    monkeypatch.setattr(_picture.View, "encode", counted)
    with opened("http://127.0.0.1:0?fps=60") as page, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", page.port))
        with running(page, make_result, picture=rgb(noise)):
            one = b"GET /picture.jpg?viewer=0123456789abcdef HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            stuck.sendall(one * 200)
            until = time.monotonic() + 20
            while page._server._deadlines and time.monotonic() < until:
                time.sleep(0.05)
                assert page._encoder.jobs.qsize() <= 1
            assert page._server._deadlines == {}, "it was never cut"
            before = len(encoded)
            assert before < 60, "pictures were made that nobody took"
            for _ in range(3):
                assert get(page.port, "/picture.jpg").status == 200
        # After it was cut, pictures are made for the other one alone.
        assert len(encoded) - before <= 4


def test_a_request_that_comes_in_drops_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handler, "REQUEST_S", 0.5)
    with opened() as page, socket.create_connection(("127.0.0.1", page.port)) as slow:
        slow.settimeout(0.2)
        slow.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(100):
            try:
                slow.sendall(b"X: y\r\n")
                if slow.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        pytest.fail("it is still connected")


@pytest.mark.parametrize(
    "request_", [b"GET /" + b"x" * 70_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000]
)
def test_a_request_that_is_too_long_is_cut(request_: bytes) -> None:
    with opened() as page, socket.create_connection(("127.0.0.1", page.port)) as long:
        long.settimeout(10)
        try:
            long.sendall(request_)
            received = long.recv(100)
        except ConnectionError:
            received = b""
        assert received == b"" or re.match(rb"HTTP/1.1 4\d\d", received)


def test_closing_waits_for_a_thread_that_is_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = threading.Event()

    def slow(server: Server, request: socket.socket) -> None:
        ending.set()
        time.sleep(0.5)
        request.close()

    monkeypatch.setattr(Server, "shutdown_request", slow)
    with opened() as page:  # which asserts that no thread is left
        assert get(page.port, "/").status == 200
        assert ending.wait(10)


def test_a_target_that_is_no_address() -> None:
    with opened() as page, socket.create_connection(("127.0.0.1", page.port)) as raw:
        raw.sendall(b"GET http://[/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert raw.makefile("rb").readline().startswith(b"HTTP/1.1 400 ")


def test_more_connections_than_there_is_room_for_are_cut(make_result: Make) -> None:
    with opened("http://127.0.0.1:0?viewers=1") as page:
        idle = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(40)]
        for one in idle:
            one.settimeout(0.5)
        until = time.monotonic() + 10
        while time.monotonic() < until and len(page._server._deadlines) < 12:
            time.sleep(0.02)
        time.sleep(0.1)
        assert len(page._server._deadlines) == 12
        for one in idle:
            one.close()
        until = time.monotonic() + 10
        while page._server._deadlines and time.monotonic() < until:
            time.sleep(0.02)
        assert get(page.port, "/").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"])
def test_only_get_is_answered(method: str) -> None:
    with opened() as page:
        assert get(page.port, "/", method).status == 405


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/numbers.json", 200), ("/http.html", 404), ("/../http.py", 404),
        ("/picture.jpg/", 404), ("/picture.jpg?stream=1", 404),
        ("/numbers.json?stream=x", 404), ("/picture.jpg?after=x&run=", 204),
        ("/?" + "&".join(f"{n}=1" for n in range(9)), 400),
    ],
)  # fmt: skip
def test_there_are_three_paths(make_result: Make, path: str, status: int) -> None:
    with opened() as page:
        page.write(make_result())
        assert get(page.port, path).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost:8080", 200), ("LOCALHOST.", 200), ("[::1]:80", 200),
        (socket.gethostname(), 200), ("192.168.1.7:8080", 200), ("rebound.example", 421),
        ("localhost.rebound.example", 421), ("", 421), ("127.0.0.1.rebound.example", 421),
        ("a@127.0.0.1", 421),
    ],
)  # fmt: skip
def test_the_page_answers_to_its_own_names(host: str, status: int) -> None:
    with opened() as page:
        assert get(page.port, "/", Host=host).status == status


def test_other_sites_may_link_to_the_page_and_no_more() -> None:
    with opened() as page:
        assert get(page.port, "/", Sec_Fetch_Site="cross-site").status == 200
        assert get(page.port, "/picture.jpg", Sec_Fetch_Site="cross-site").status == 403
        assert get(page.port, "/numbers.json", Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize("header", [{"Content_Length": "3"}, {"Transfer_Encoding": "chunked"}])
def test_a_get_has_no_body(header: dict[str, str]) -> None:
    with opened() as page:
        assert get(page.port, "/", **header).status == 400


def test_beyond_loopback_a_token_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with opened("http://0.0.0.0:0") as page:
        port = page.port
        url = capsys.readouterr().err.split()[-1]
        match = re.fullmatch(rf"http://[^/]+:{port}/\?token=([\w-]{{32}})", url)
        assert match, url
        token = match[1]
        for path in ("/", "/picture.jpg", "/numbers.json", "/none", "/?token=", "/?token=é"):
            refused = get(port, path.replace("é", "%C3%A9"))
            assert (refused.status, b"token" in refused.body) == (403, True)
        assert get(port, f"/?token={token[:-1]}").status == 403
        reply = get(port, f"/?token={token}")
        assert reply.status == 200
        cookie, *attributes = reply.headers["Set-Cookie"].split("; ")
        assert cookie == f"edgekit_{port}={token}"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(attributes)
        assert get(port, "/numbers.json", Cookie=f"other=1; {cookie}").status == 200
        assert get(port, "/numbers.json", Cookie=cookie[:-1]).status == 403
        assert get(port, "/numbers.json", Cookie='"; =;;').status == 403
        assert get(port, f"/numbers.json?token={token}").status == 200


def test_a_token_of_ones_own() -> None:
    with opened(f"http://127.0.0.1:0?token={TOKEN}") as page:
        assert get(page.port, "/").status == 403
        assert get(page.port, f"/?token={TOKEN}").status == 200


@pytest.mark.parametrize("token", ["short", "a b c d e f g h i j k", "ü" * 20, "a" * 201])
def test_a_bad_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(SpecError, match="16 to 200 letters") as caught:
        open_output(f"http://127.0.0.1:0?token={token}", Copies())
    assert token not in str(caught.value)


def test_so_many_viewers_and_no_more(make_result: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("http://127.0.0.1:0?viewers=2") as page, running(page, make_result):
        for viewer in ("0" * 16, "1" * 16, "0" * 16):
            assert get(page.port, f"/picture.jpg?viewer={viewer}").status == 200
        refused = get(page.port, f"/numbers.json?viewer={'2' * 16}")
        assert refused.status == 503
        assert b"2 viewers are watching" in refused.body
        assert get(page.port, "/").status == 200
        numbers = json.loads(get(page.port, f"/numbers.json?viewer={'1' * 16}").body)
        assert (numbers["viewers"], numbers["most_viewers"]) == (2, 2)
        monkeypatch.setattr(_server, "_SEAT_S", 0.0)
        assert get(page.port, f"/numbers.json?viewer={'2' * 16}").status == 200


def test_many_viewers_get_the_same_pictures(make_result: Make) -> None:
    seen: dict[int, list[tuple[int, bytes]]] = {}

    def watch(viewer: int) -> None:
        after, run = 0, ""
        for _ in range(5):
            reply = get(page.port, f"/picture.jpg?viewer={viewer:016x}&after={after}&run={run}")
            assert reply.status == 200
            after, run = reply.answer["number"], reply.answer["run"]
            seen.setdefault(viewer, []).append((after, reply.body))

    with opened("http://127.0.0.1:0?fps=30") as page, running(page, make_result):
        threads = [threading.Thread(target=watch, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(pictures) for pictures in seen.values()] == [5] * 6
    for pictures in seen.values():
        numbers = [number for number, _ in pictures]
        assert numbers == sorted(set(numbers))
    # One picture is encoded once, for all who take it.
    assert len({picture for pictures in seen.values() for picture in pictures}) < 30


def test_each_source_and_model_is_a_stream(make_result: Make) -> None:
    with opened() as page:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.wait(0.005):
                page.write(make_result(number, source="rtsp://me:secret@cam/a"))
                blue = rgb(np.full((48, 64, 3), (20, 20, 200), np.uint8))
                page.write(make_result(number, blue, model="other"))
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            red, blue = (get(page.port, f"/picture.jpg?stream={n}") for n in (0, 1))
            numbers = json.loads(get(page.port, "/numbers.json?stream=1").body)
        finally:
            stop.set()
            writer.join()
    assert colour(red.body).argmax() == 0
    assert colour(blue.body).argmax() == 2
    assert b"secret" not in json.dumps(red.answer).encode() + json.dumps(numbers).encode()
    assert [each["source"] for each in numbers["streams"]] == ["rtsp://cam/a", "synthetic://8x6@1"]
    assert numbers["stream"]["model"] == "other"


def test_the_numbers(make_result: Make) -> None:
    stats = Stats()
    with opened() as page:
        empty = json.loads(get(page.port, "/numbers.json").body)
        assert (empty["stream"], empty["streams"]) == (None, [])
        for number in range(5):
            made = make_result(number, stats=stats)
            stats.stages["infer"].add(2_000_000)
            stats.copies.add("input", "resize", 100)
            stats.answered(made.frame)
            page.write(made)
        until = time.monotonic() + 20
        while not (numbers := json.loads(get(page.port, "/numbers.json").body))["stream"]:
            assert time.monotonic() < until
            time.sleep(0.05)
    stream = numbers["stream"]
    assert stream["recent"] == {
        "seconds": 60,
        **dict.fromkeys(("fps", "p50_ms", "p95_ms"), [None] * 60),
    }
    assert stream["summary"]["frames"] == 5
    assert stream["summary"]["stages_ms"]["infer"]["p50"] == pytest.approx(2, rel=0.01)
    assert stream["summary"]["bytes_per_frame"]["input"] == 100
    assert stream["answer"]["frame"] == 4
    assert stream["silent_s"] >= 0


def test_who_waits_is_told_that_the_run_ended(make_result: Make) -> None:
    replies: list[Reply] = []
    with opened() as page:
        page.write(make_result())
        waiting = threading.Thread(target=lambda: replies.append(get(page.port, "/picture.jpg")))
        waiting.start()
        stream = page._streams.get(0, 0)
        assert stream
        while not stream.view._waiting:
            time.sleep(0.01)
        page.close()
        waiting.join()
    assert [(reply.status, reply.body) for reply in replies] == [(410, b"the run has ended\n")]


def test_closing_again_does_nothing_and_frees_the_port() -> None:
    page = open_output("http://127.0.0.1:0", Copies())
    assert isinstance(page, LivePage)
    port = page.port
    page.close()
    page.close()
    with opened(f"http://127.0.0.1:{port}") as again:
        assert again.port == port


def test_a_port_that_is_taken() -> None:
    with opened() as page, pytest.raises(SourceUnavailable, match="in use.*a free port, or port 0"):
        open_output(f"http://127.0.0.1:{page.port}?token={TOKEN}", Copies())


def test_an_address_of_another_machine() -> None:
    with pytest.raises(SourceUnavailable, match="an address of this machine"):
        open_output("http://192.0.2.1:0", Copies())


def test_a_host_that_is_not_known() -> None:
    with pytest.raises(InputError, match=r"'nowhere\.invalid'.*not known"):
        open_output("http://nowhere.invalid:0", Copies())


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:0/page", "http://a:b", "http://::1:80", "http://x:99999"]
)
def test_an_address_that_is_none(uri: str) -> None:
    with pytest.raises(SpecError, match="must be http://HOST:PORT"):
        open_output(uri, Copies())
