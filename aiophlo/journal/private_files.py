"""Opens files safely in folders where others may have put links or other files.

Somebody who can write to the same folder can put a symbolic link, a FIFO or a
file of their own where ours is about to be made: writing through it would
overwrite its target, wait for ever, or show what is written to others. So what
is written is made new, and what is there already has to be a regular file.
"""

import os
import stat
from pathlib import Path

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_MODE = 0o600


def create_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Make a new file that this user alone can read; return its descriptor.

    Args:
        path: Where nothing is yet, not even a symbolic link.
        flags: Of `os.open`, besides those that make it.

    Raises:
        FileExistsError: Something is there.
        OSError: It can't be made.
    """
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, _MODE)


def stat_regular(path: Path, *, follow: bool = True) -> os.stat_result | None:
    """Return what is known of a regular file, without opening it.

    Args:
        path: What may be opened next.
        follow: Take a symbolic link for the file that it leads to.

    Returns:
        Its status, or None if nothing is there.

    Raises:
        OSError: Something else is there (a FIFO, a device, a folder, a symbolic
            link that is not followed or leads in a circle), or it can't be seen.
    """
    try:
        found = path.stat(follow_symlinks=follow)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path.name} is {_kind(found.st_mode)}, not a regular file")
    return found


def stat_own(path: Path) -> os.stat_result | None:
    """Do as `stat_regular` does, for a file that is to be replaced or written.

    Raises:
        OSError: As there; or it belongs to somebody else, or is a symbolic link.
    """
    found = stat_regular(path, follow=False)
    if found is not None and hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise OSError(f"{path.name} belongs to another user")
    return found


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFDIR: "a folder",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
