"""Private files: nothing that somebody else has put in the way is written to."""

import os
import stat
from pathlib import Path

import pytest

from aiophlo.journal.private_files import create_private, stat_own, stat_regular


def test_new_file_is_for_its_user_alone(tmp_path: Path) -> None:
    """Others on the machine must not read whom somebody calls."""
    path = tmp_path / "new"
    os.close(create_private(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_planted_link_is_not_written_through(target: str, tmp_path: Path) -> None:
    """Whoever may write to the folder must not choose which file is overwritten."""
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious")
    link.symlink_to(tmp_path / target)
    with pytest.raises(FileExistsError):
        create_private(link)
    with pytest.raises(OSError, match="is a symbolic link, not a regular file"):
        stat_own(link)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_planted_fifo_is_not_opened(tmp_path: Path) -> None:
    """Opening one would wait for ever, with a batch not sent."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for look in (stat_own, stat_regular):
        with pytest.raises(OSError, match="is a FIFO, not a regular file"):
            look(path)


def test_links_in_a_circle_are_an_os_error(tmp_path: Path) -> None:
    """A command can explain an OSError; `Path.resolve` raises RuntimeError."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        stat_regular(tmp_path / "a")


def test_file_of_another_user_is_not_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could read what is written to it, and change it."""
    path = tmp_path / "theirs"
    path.write_text("")
    assert stat_own(path) is not None
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(OSError, match="belongs to another user"):
        stat_own(path)
    assert stat_regular(path) is not None


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    """Most files are new."""
    assert stat_own(tmp_path / "new") is None
    assert stat_regular(tmp_path / "new") is None
