"""Servers that benchmarks and tests start on this machine: PostgreSQL and MLflow."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def initdb() -> Path | None:
    """PostgreSQL's program that creates a server's data; None if it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb")
    return installed[-1] if installed else Path(found) if found else None


class DatabaseServer:
    """A PostgreSQL server on loopback, run by an unprivileged user, that can be killed.

    Args:
        folder: of its data; the user `postgres` must be able to reach it.
    """

    def __init__(self, folder: Path) -> None:
        program = initdb()
        assert program is not None, "needs PostgreSQL: apt-get install postgresql"
        self.binaries, self.folder, self.port = program.resolve().parent, folder, free_port()
        self.url = f"postgresql://segtune@127.0.0.1:{self.port}"
        self._user = {"user": "postgres"} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "postgres")
        self._call("initdb", "-A", "trust", "-U", "segtune")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._call("pg_ctl", "-l", str(self.folder / "log"), "-w", "-o", options, "start")

    def kill(self) -> None:
        """End the server as a crash does: all connections break."""
        self._call("pg_ctl", "-m", "immediate", "stop")

    def create(self, name: str) -> str:
        """Create an empty database; return its URL."""
        import psycopg

        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def _call(self, program: str, *words: str) -> None:
        command = [str(self.binaries / program), "-D", str(self.folder / "data"), *words]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, **self._user
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr + done.stdout


class TrackingServer:
    """An MLflow server on loopback that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]
        # its queues for evaluation jobs take seven processes more, which nothing here uses
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.5)
        raise AssertionError("the server never answered")

    def kill(self) -> None:
        """End the server and its workers at once."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
