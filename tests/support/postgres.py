"""A real Postgres for tests: started once, with an empty database."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.ports import free_port

_FOLDERS: Final = "/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin"
_SETTINGS: Final = {
    "fsync": "off",  # a test's database needn't survive the machine
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
}


def find_binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None if there is none."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    for pattern in _FOLDERS:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if (folder / "initdb").exists():
                return folder
    return None


class Postgres:
    """A server of its own data, on a port of this machine.

    Attributes:
        url: Of its database.
        port: Its port.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self._folder = folder
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        # Postgres refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)

    def make(self) -> None:
        """Make its data."""
        arguments = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        subprocess.run(  # noqa: S603 -- a test's own server
            [self._binaries / "initdb", "-D", self._data, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C"},
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- as above
                [
                    self._binaries / "postgres",
                    *("-D", self._data, "-p", str(self.port), "-k", self._folder),
                    *settings,
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1"]
        for _ in range(600):
            found = subprocess.run([*ready, "-p", str(self.port)], check=False)  # noqa: S603 -- as above
            if found.returncode == 0:
                return
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.05)
        raise TimeoutError("Postgres doesn't answer")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self._process is not None
        main = self._process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text("ascii")
        for pid in (main, *map(int, children.split())):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None


@contextmanager
def running_postgres(binaries: Path) -> Iterator[Postgres]:
    """Give a server that is started, and ended."""
    with tempfile.TemporaryDirectory(prefix="aiophlo-postgres-") as folder:
        postgres = Postgres(binaries, Path(folder))
        postgres.make()
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
