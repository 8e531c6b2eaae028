"""A server on a free port in this process, and a plain client for it."""

import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.servers import free_port
from segtune.classes import ClassTable
from segtune.inference.segmenter import Segmenter
from segtune.models.build import build
from segtune.serving.app import create_app
from segtune.serving.listening import listen, server_of
from segtune.serving.served import ModelSlot, ServedModel
from segtune.serving.settings import ServerSettings

CLASSES = ["background", "road", "car"]


def tiny_segmenter(seed: int = 0) -> Segmenter:
    """A segmenter of random weights, for images of any size."""
    import torch

    torch.manual_seed(seed)
    description = {"architecture": "Swift", "width": 8}
    model = build(description, len(CLASSES))
    segmenter = Segmenter(model, ClassTable.parse(CLASSES), [32], {}, "cpu")
    segmenter.describe({"name": "swift", "model": description}, {"name": "noise"}, {})
    return segmenter


def served(version: str = "v1", seed: int = 0) -> ServedModel:
    return ServedModel("models:/m@champion", version, tiny_segmenter(seed), None, version)


def slot(model: ServedModel | None = None) -> ModelSlot:
    model = model or served()
    return ModelSlot(lambda: model, lambda: (model.version, model.manifest), print)


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client(NamedTuple):
    """Asks one server."""

    port: int

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, fields, response.read())
        finally:
            connection.close()

    def finished(self, job_id: str) -> dict[str, Any]:
        """The job when it has ended."""
        for _ in range(2400):
            job = self("GET", f"/v1/jobs/{job_id}").json
            if job["state"] in ("done", "failed"):
                return dict(job)
            time.sleep(0.1)
        raise AssertionError(f"job {job_id} does not end")


@contextmanager
def running(model: ModelSlot, folder: Path, **settings: Any) -> Iterator[Client]:
    """A server that answers while the block runs."""
    port = free_port()
    values = {"port": port, "poll": 0, "jobs": folder / "jobs", **settings}
    listening, _ = listen("127.0.0.1", port)
    server = server_of(create_app(model, ServerSettings(**values)), 5)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Client(port)
    finally:
        server.should_exit = True
        thread.join()


def picture(seed: int = 0, size: tuple[int, int] = (40, 56)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
