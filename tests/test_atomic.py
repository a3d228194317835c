import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import atomic, bundle
from edgekit.atomic import writing
from edgekit.errors import InputError, StorageError

Make = Callable[[Path], Path]


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def write(out: Path, content: str = "new", force: bool = False) -> None:
    with writing(out, force) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "file").write_text(content)


def fail(out: Path, error: BaseException) -> None:
    with writing(out, force=False) as partial:
        (partial / "file").write_text("x")
        raise error


def test_the_folder_appears_whole(tmp_path: Path) -> None:
    with writing(tmp_path / "out", force=False) as partial:
        (partial / "file").write_text("x")
        assert not (tmp_path / "out").exists()
        assert partial.parent == tmp_path
    assert everything(tmp_path) == ["out", "out/file"]


def test_it_may_be_read_like_any_folder(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    write(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == plain.stat().st_mode


def test_missing_parents_are_made_and_taken_back(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out")
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "a" / "c" / "d" / "out", False):
        raise KeyboardInterrupt
    assert everything(tmp_path) == ["a", "a/b", "a/b/out", "a/b/out/sub", "a/b/out/sub/file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_any_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail(tmp_path / "out", error())
    assert everything(tmp_path) == []


def test_read_only_files_and_fifos_are_no_obstacle(tmp_path: Path) -> None:
    with writing(tmp_path / "out", force=False) as partial:
        (partial / "file").write_text("x")
        (partial / "file").chmod(0o444)
        os.mkfifo(partial / "fifo")
    assert everything(tmp_path) == ["out", "out/fifo", "out/file"]


def test_a_relative_out_is_not_moved_by_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with writing(Path("out"), force=False) as partial:
        (partial / "file").write_text("x")
        os.chdir("/")
    assert everything(tmp_path) == ["out", "out/file"]


def test_an_existing_folder_needs_force(tmp_path: Path, make_bundle: Make) -> None:
    make_bundle(tmp_path / "out")
    with pytest.raises(InputError, match=r"exists; give another folder with -o, or .* --force"):
        write(tmp_path / "out")
    bundle.read(tmp_path / "out")


@pytest.mark.parametrize("exchange", [True, False])
def test_force_replaces_a_bundle(
    tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_renameat2", lambda *_: False)
    make_bundle(tmp_path / "out")
    write(tmp_path / "out", force=True)
    assert everything(tmp_path) == ["out", "out/sub", "out/sub/file"]


@pytest.mark.parametrize("exchange", [True, False])
def test_force_replaces_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_renameat2", lambda *_: False)
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", force=True)
    assert everything(tmp_path) == ["out", "out/sub", "out/sub/file"]


def test_a_damaged_bundle_may_be_replaced(tmp_path: Path, make_bundle: Make) -> None:
    make_bundle(tmp_path / "out")
    (tmp_path / "out" / "model.onnx").write_bytes(b"")
    (tmp_path / "out" / "labels.txt").unlink()
    write(tmp_path / "out", force=True)


@pytest.mark.parametrize(
    "manifest", [None, "", "{}", "[]", '{"schema": 1}', '{"schema": 1, "files": 3}', "[" * 99999]
)
def test_force_spares_a_folder_that_is_no_bundle(tmp_path: Path, manifest: str | None) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    if manifest is not None:
        (out / "manifest.json").write_text(manifest)
    before = everything(out)
    with pytest.raises(InputError, match="is not replaced, even with --force"):
        write(out, force=True)
    assert everything(out) == before


def test_force_spares_a_bundle_with_something_of_the_users_in_it(
    tmp_path: Path, make_bundle: Make
) -> None:
    out = make_bundle(tmp_path / "out")
    (out / "golden" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds more than one \(golden/notes\.txt\)"):
        write(out, force=True)
    assert (out / "golden" / "notes.txt").read_text() == "mine"


def test_what_the_user_puts_there_during_the_build_is_spared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists"), writing(tmp_path / "out", False):
        write(tmp_path / "out")
    assert everything(tmp_path) == ["out", "out/sub", "out/sub/file"]


def test_a_folder_that_appears_at_the_last_moment_is_spared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(atomic, "_check_free", lambda out, force: None)
    monkeypatch.setattr(Path, "exists", lambda self: self == tmp_path)
    with pytest.raises(InputError, match="appeared meanwhile"):
        write(tmp_path / "out")
    monkeypatch.undo()
    assert everything(tmp_path) == ["out"]


def test_a_file_or_a_link_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        write(tmp_path / "file", force=True)
    with pytest.raises(InputError, match="is a link"):
        write(tmp_path / "link", force=True)
    with pytest.raises(InputError, match="exists"):
        write(Path("/"))


def test_a_full_disk_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"cannot write {tmp_path / 'out'}: the disk is full"):
        fail(tmp_path / "out", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert everything(tmp_path) == []


def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_bundle(
    tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    make_bundle(tmp_path / "out")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="Input/output error"):
        write(tmp_path / "out", force=True)
    bundle.read(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_swap_by_steps_restores_the_old_bundle(
    tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def second_fails(source: Path, destination: Path) -> None:
        if source.name.endswith(".partial") and ".old." not in source.name:
            raise OSError(errno.EIO, "Input/output error", str(source))
        rename(source, destination)

    make_bundle(tmp_path / "out")
    monkeypatch.setattr(atomic, "_renameat2", lambda *_: False)
    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(StorageError, match="Input/output error"):
        write(tmp_path / "out", force=True)
    bundle.read(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_unusable_parent_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "file" / "out")
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / ("x" * 300))
    with pytest.raises(StorageError, match="cannot write"):
        write(Path("/proc/nothing/out"))
    assert everything(tmp_path) == ["file"]


def test_an_error_of_something_else_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out", False):
        (tmp_path / "absent.jpg").read_bytes()
    assert everything(tmp_path) == []


def test_a_living_writers_partial_is_left_alone(tmp_path: Path) -> None:
    with writing(tmp_path / "out", False) as partial:
        os.utime(partial, (0, 0))
        atomic._remove_dead(tmp_path / "out")
        assert partial.is_dir()
        (partial / "file").write_text("x")
    assert everything(tmp_path) == ["out", "out/file"]


CHILD = """
    import sys, time
    from pathlib import Path
    from edgekit.atomic import writing
    with writing(Path(sys.argv[1]), force=True) as partial:
        (partial / "file").write_text("half")
        print("ready", flush=True)
        time.sleep(60)
"""


def end_midway(out: Path, number: signal.Signals) -> int:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        return child.wait(30)


def test_sigterm_leaves_nothing_and_exits_143(tmp_path: Path) -> None:
    assert end_midway(tmp_path / "sub" / "out", signal.SIGTERM) == 143
    assert everything(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    end_midway(tmp_path / "out", signal.SIGINT)
    assert everything(tmp_path) == []


def test_kill_leaves_the_old_bundle_and_the_next_write_cleans_up(
    tmp_path: Path, make_bundle: Make
) -> None:
    out = make_bundle(tmp_path / "out")
    assert end_midway(out, signal.SIGKILL) == -signal.SIGKILL
    bundle.read(out)
    (partial,) = (path for path in tmp_path.iterdir() if path.name.endswith(".partial"))
    write(out, force=True)
    assert partial.exists()  # too young to be told from one that is about to be locked
    os.utime(partial, (0, 0))
    with pytest.raises(InputError):
        write(out)
    assert partial.exists()  # nothing is touched before the name is known to be free
    write(tmp_path / "other")
    assert partial.exists()
    (out / "sub" / "file").unlink()
    (out / "sub").rmdir()
    write(out, force=True)
    assert not partial.exists()
