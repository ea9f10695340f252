"""nginx as the server that answers at once, where it is installed.

It is nobody's bottleneck: one worker answers several times what any client here
can ask. It can't answer later, nor count, so all else is `benchmarks.harness.servers`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from benchmarks.harness.answers import ACCEPTED, DESCRIBED

PROGRAM: Final = "nginx"
_PATIENCE: Final = 10.0  # seconds for it to listen
_CONNECTIONS: Final = 16_384  # of all clients side by side; with too few it hangs up
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_CONFIGURATION: Final = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {connections};
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections {connections}; }}
http {{
    {temporary}
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_header_timeout 600s;  # of a client that is often stopped
    default_type application/json;
    server {{
        listen 127.0.0.1:{port}{tls};
        location / {{
            if ($request_method = GET) {{ return 200 '{described}'; }}
            return 201 '{accepted}';
        }}
    }}
}}
"""

_TLS: Final = """ ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.3"""


def path() -> str | None:
    """Return where nginx is, if it is installed."""
    elsewhere = "/usr/sbin:/usr/local/sbin"  # often on root's path alone
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{elsewhere}")


def version() -> str | None:
    """Return nginx's version, if it is installed."""
    command = path()
    if command is None:
        return None
    told = subprocess.run([command, "-v"], capture_output=True, text=True, check=True)  # noqa: S603 -- it asks for a version
    return told.stderr.rpartition("/")[2].split()[0]


@contextlib.contextmanager
def serving(command: str, certificate: Path | None = None) -> Iterator[str]:
    """Run nginx; gives the base URL of what accepts every transfer.

    Args:
        command: Where it is.
        certificate: Of a server that speaks TLS, with its key.

    Raises:
        RuntimeError: It ended, or doesn't listen.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # its worker is another user, if we are root
        port = _free_port()
        (Path(folder) / "nginx.conf").write_text(
            _configuration(folder, port, certificate)
        )
        words = [command, "-p", folder, "-c", f"{folder}/nginx.conf", "-e", "stderr"]
        with (
            (Path(folder) / "said").open("w+") as said,
            subprocess.Popen(words, stderr=said) as process,  # noqa: S603 -- our own configuration
        ):
            try:
                _wait(process, port, said)
                scheme = "http" if certificate is None else "https"
                yield f"{scheme}://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


def _configuration(folder: str, port: int, certificate: Path | None) -> str:
    tls = "" if certificate is None else _TLS.format(certificate=certificate)
    return _CONFIGURATION.format(
        folder=folder,
        port=port,
        tls=tls,
        connections=_CONNECTIONS,
        temporary=" ".join(f"{it}_temp_path {folder}/{it};" for it in _TEMPORARY),
        described=DESCRIBED.decode(),
        accepted=ACCEPTED.format("$request_id"),
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, said: IO[str]) -> None:
    """Wait until it takes connections."""
    last = time.monotonic() + _PATIENCE
    while time.monotonic() < last:
        if process.poll() is not None:
            said.seek(0)
            raise RuntimeError(f"nginx ended: {said.read()}")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.01)
    raise RuntimeError("nginx doesn't listen")
