"""The parts that all routes share: model, threads, jobs, limits and counters."""

import asyncio
import string
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import FastAPI

from segtune.data.reading.images import read_image
from segtune.inference.options import Options
from segtune.runtime.log import to_stderr
from segtune.serving.computing import ComputeThreads, SegmentedImage
from segtune.serving.counters import Counters
from segtune.serving.deadline import Deadline
from segtune.serving.gate import Gate
from segtune.serving.job_worker import JobWorker
from segtune.serving.jobs import JobStore
from segtune.serving.predictor import UploadPredictor, options_for
from segtune.serving.served import ModelSlot, ServedModel
from segtune.serving.settings import ServerSettings

T = TypeVar("T")


class Server:
    """What the routes of one application work with."""

    def __init__(self, slot: ModelSlot, settings: ServerSettings) -> None:
        self.slot, self.settings = slot, settings
        self.counters = Counters()
        self.gate = Gate(settings, self.counters)
        self.jobs = JobStore(settings.jobs, settings.jobs_gb * 1e9, slot.current.uri)
        self.is_ready = False

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Start the threads and the jobs, and end them after the last request."""
        self._report_jobs_of_others()
        self.threads = ComputeThreads(self.slot.current.segmenter)
        worker = JobWorker(self.jobs, self._predictor)
        polling = asyncio.create_task(self._poll()) if self.settings.poll else None
        self.is_ready = True
        try:
            yield
        finally:
            self.is_ready = False
            if polling:
                polling.cancel()
            await asyncio.to_thread(worker.close)
            await asyncio.to_thread(self.threads.close)

    def _predictor(self) -> UploadPredictor:
        return UploadPredictor(self.slot.current, self.settings.max_pixels)

    def _report_jobs_of_others(self) -> None:
        for uri, number in self.jobs.of_others().items():
            to_stderr(
                f"{number} unfinished jobs in '{self.jobs.root}' were sent to {uri}: serve that "
                "model to finish them, or delete them (DELETE /v1/jobs/ID)."
            )

    async def reload(self) -> bool:
        """Take a new champion; return whether there was one."""
        is_new = await asyncio.to_thread(self.slot.refresh)
        if is_new:
            self.counters.replaced.inc()
        return is_new

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll)
            await self.reload()

    def deadline(self) -> Deadline:
        """The deadline of a request that begins now."""
        return Deadline.after(self.settings.deadline)

    def options(self, served: ServedModel, given: dict[str, Any]) -> Options:
        """The options of a request; see `predictor.options_for`."""
        return options_for(served, given, self.settings.max_pixels)

    async def segment(
        self,
        data: bytes,
        served: ServedModel,
        options: Options,
        encode: Callable[[SegmentedImage], T],
    ) -> T:
        """Decode, segment and encode an image; return what `encode` returns.

        Raises:
            DataError: no image.
        """
        counters = self.counters

        def decode() -> Any:
            with counters.stage("decode"):
                reading = served.segmenter.reading
                return read_image(data, options.max_pixels, name="the image", reading=reading)

        def encoded(image: SegmentedImage) -> T:
            with counters.stage("encode"):
                return encode(image)

        async with self.gate.decoded:
            pixels = await self.threads.run(decode)
            with counters.stage("segment"):
                image = await self.threads.segment(served, pixels, options)
            return await self.threads.run(encoded, image)


def model_header(version: str) -> dict[str, str]:
    """The header that names the version of an answer."""
    # a header holds ASCII alone
    return {"X-Segtune-Model": quote(version, safe=string.punctuation + " ")}
