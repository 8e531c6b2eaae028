"""Jobs: videos over HTTP, across restarts, deletions, limits and the hosted segmenter's clients."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType

import pytest

from segtune.errors import Interrupted, StorageError
from segtune.inference.options import Options
from segtune.inference.prediction.files import frames_of
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.serving import job_worker, predictor
from segtune.serving.computing import ComputeThreads
from segtune.serving.hosted_videos import hosted_frames
from segtune.serving.job_worker import JobWorker
from segtune.serving.jobs import JobStore
from segtune.serving.predictor import UploadPredictor
from segtune.serving.problems import Problem
from tests.inference.test_video import clip
from tests.serving.server import Client, picture, png, running, served, slot, tiny_segmenter


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return clip(path, [40 * n for n in range(10)]).read_bytes()


def test_a_video_becomes_frames_of_regions_and_an_overlay(tmp_path, video):
    with running(slot(), tmp_path) as client:
        query = "name=..%2Fmy%20clip.mp4&formats=overlays&sample_ms=80"
        reply = client("POST", f"/v1/jobs?{query}", video)
        assert (reply.status, reply.json["name"]) == (202, "my clip.mp4")
        job = client.finished(reply.json["id"])
        assert (job["state"], job["model"], job["fault"]) == ("done", "v1", "")
        assert job["files"] == ["overlays/upload.mp4", "regions.json", "regions/upload.jsonl"]
        place = f"/v1/jobs/{job['id']}/files"
        frames = client("GET", f"{place}/regions/upload.jsonl").body
        (tmp_path / "frames.jsonl").write_bytes(frames)
        assert [row["time"] for row in frames_of(tmp_path / "frames.jsonl")] == pytest.approx(
            [0.0, 0.08, 0.16, 0.24, 0.32]
        )
        for name in ("../job.json", "..%2Fjob.json", "/etc/passwd", "job.json"):
            assert client("GET", f"{place}/{name}").status == 404
        assert client("DELETE", f"/v1/jobs/{job['id']}").status == 204
        assert client("GET", f"/v1/jobs/{job['id']}").status == 404
        assert client("GET", "/v1/jobs").json == {"jobs": []}


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [("formats=tiff", b"x", 400), ("output=/tmp", b"x", 400), ("", b"x" * 20_000, 413)],
)
def test_a_job_that_cannot_be_done_leaves_nothing(tmp_path, query, body, status):
    with running(slot(), tmp_path, max_body_mb=0.001) as client:
        assert client("POST", f"/v1/jobs?{query}", body).status == status
        assert client("GET", "/v1/jobs").json == {"jobs": []}
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [".room.lock"]


def test_an_upload_that_is_no_video_fails_with_its_name(tmp_path):
    with running(slot(), tmp_path) as client:
        job = client.finished(client("POST", "/v1/jobs?name=my.mp4", b"no video").json["id"])
        assert job["state"] == "failed"
        assert "my.mp4" in job["fault"]
        assert str(tmp_path) not in job["fault"]
        assert client("GET", f"/v1/jobs/{job['id']}/files/regions.json").status == 409


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_job_half_done_goes_on_after_a_restart(tmp_path, video, monkeypatch, version):
    predict = predictor.predict

    def stopped(model, request, say, progress):
        def half(what, done, total):
            if done == 5:
                raise Interrupted("the server ends")

        return predict(model, request, say, half)

    monkeypatch.setattr(predictor, "predict", stopped)
    with running(slot(), tmp_path) as client:
        job_id = client("POST", "/v1/jobs", video).json["id"]
    lines = tmp_path / "jobs" / job_id / "output" / "regions" / "upload.jsonl"
    assert 1 < len(lines.read_text().splitlines()) < 10

    monkeypatch.undo()
    lines_before = lines.read_bytes()
    with running(slot(served(version)), tmp_path) as client:
        job = client.finished(job_id)
        assert (job["state"], job["model"]) == ("done", version)
    assert len(list(frames_of(lines))) == 10
    assert lines.read_bytes().startswith(lines_before) == (version == "v1")


class SlowPredictor:
    """Waits in its first job until it is stopped."""

    version = "v1"

    def __init__(self) -> None:
        self.started = threading.Event()

    def predict(self, upload, output, options, progress):
        self.started.set()
        while True:
            progress(1, 2)


def added(store, name="a.mp4", content=b"x"):
    """A job of a store that waits for a worker."""
    job, path = store.reserve(name, {}, len(content))
    path.write_bytes(content)
    store.start(job)
    return job


@contextmanager
def working(store, predictor=None):
    """A worker of the store."""
    worker = JobWorker(store, lambda: predictor or SlowPredictor())
    try:
        yield worker
    finally:
        worker.close()


def wait_until(is_true):
    for _ in range(2000):
        if is_true():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come")


def test_a_running_job_is_stopped_when_it_is_deleted(tmp_path):
    slow, store = SlowPredictor(), JobStore(tmp_path / "jobs", 1e9)
    job = added(store)
    with working(store, slow):
        assert slow.started.wait(10)
        store.delete(job.id)
        with pytest.raises(Problem, match="no job"):
            store.get(job.id)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [".room.lock"]


def test_a_half_done_job_that_waits_after_a_restart_can_be_deleted(tmp_path):
    slow, store = SlowPredictor(), JobStore(tmp_path / "jobs", 1e9)
    waiting = [added(store, f"{number}.mp4") for number in range(2)]
    with working(store, slow):
        assert slow.started.wait(10)
    later = tmp_path / "jobs" / waiting[1].id / "job.json"
    later.write_text(later.read_text().replace('"queued"', '"running"'))  # as of a killed server

    store = JobStore(tmp_path / "jobs", 1e9)
    store.delete(waiting[1].id)
    with working(store):
        wait_until(lambda: store.get(waiting[0].id).state == "running")
    assert [job.id for job in store.all()] == [waiting[0].id]
    assert store.get(waiting[0].id).state == "queued"


class FastPredictor:
    """Notes which server computes which job."""

    version = "v1"

    def __init__(self, name: str, seen: list[tuple[str, str]]) -> None:
        self.name, self.seen = name, seen

    def predict(self, upload, output, options, progress):
        self.seen.append((upload.parent.name, self.name))
        time.sleep(0.005)
        progress(1, 1)


def test_each_job_of_servers_that_share_a_folder_is_computed_once(tmp_path):
    seen: list[tuple[str, str]] = []
    stores = [JobStore(tmp_path / "jobs", 1e9, "models:/m@champion") for _ in range(3)]
    with ExitStack() as stack:
        for number, store in enumerate(stores):
            stack.enter_context(working(store, FastPredictor(str(number), seen)))
        jobs = [added(stores[number % 3]) for number in range(30)]
        wait_until(lambda: all(stores[0].get(job.id).state == "done" for job in jobs))
    assert sorted(job_id for job_id, _ in seen) == sorted(job.id for job in jobs)
    assert len({name for _, name in seen}) > 1
    for store, job in zip(stores * 10, jobs, strict=True):
        store.delete(job.id)  # also one that another server got or computed
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [".room.lock"]


def test_a_job_that_runs_on_one_server_is_stopped_by_another_one(tmp_path):
    slow, first = SlowPredictor(), JobStore(tmp_path / "jobs", 1e9)
    second = JobStore(tmp_path / "jobs", 1e9)
    job = added(second)
    with working(first, slow), working(second):
        wait_until(lambda: first.get(job.id).state == "running")
        assert second.take() is None and first.take() is None
        (second if slow.started.is_set() else first).delete(job.id)
        wait_until(lambda: not (tmp_path / "jobs" / job.id).exists())


def test_a_job_of_another_model_waits_for_its_own_server(tmp_path):
    store = JobStore(tmp_path / "jobs", 1e9, "models:/street@champion")
    other = JobStore(tmp_path / "jobs", 1e9, "models:/cells@champion")
    job = added(store)
    assert other.take() is None
    assert other.of_others() == {"models:/street@champion": 1} and not store.of_others()
    assert other.get(job.id).state == "queued"
    assert store.take() == store.get(job.id)


def test_a_job_whose_server_was_killed_after_its_last_output_is_done(tmp_path):
    store = JobStore(tmp_path / "jobs", 1e9)
    job = added(store)
    output = tmp_path / "jobs" / job.id / "output"
    output.mkdir()
    (output / "regions.json").write_text("{}")
    with working(store):
        wait_until(lambda: store.get(job.id).state == "done")
    assert store.files(job.id) == ["regions.json"]


def test_a_job_that_fills_the_folder_fails_and_keeps_no_other_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(job_worker, "_WRITE_EVERY", 0)
    monkeypatch.setattr(job_worker, "_COUNTING_SHARE", 1e9)

    class LargeOutput(SlowPredictor):
        def predict(self, upload, output, options, progress):
            output.mkdir()
            for frame in range(100):
                (output / f"{frame}").write_bytes(b"x" * 100)
                progress(frame, 100)

    store = JobStore(tmp_path / "jobs", 1000)
    job = added(store)
    with working(store, LargeOutput()):
        wait_until(lambda: store.get(job.id).state == "failed")
        failed = store.get(job.id)
        assert failed.done in (7, 8)  # with job.json, before the tenth frame
        assert "delete finished ones" in failed.fault
        store.delete(job.id)
        assert store.reserve("b.mp4", {}, 1)


def test_a_full_folder_of_jobs_takes_no_more(tmp_path):
    first, second = (JobStore(tmp_path / "jobs", 100) for _ in range(2))
    job, _ = first.reserve("a.mp4", {}, 60)  # its bytes count before they arrive
    for store in (first, second):
        with pytest.raises(Problem, match="delete finished ones") as refused:
            store.reserve("b.mp4", {}, 60)
        assert (refused.value.status, refused.value.retry_after) == (429, 60)
    assert second.take() is None  # and nobody removes an upload that still arrives
    assert (tmp_path / "jobs" / job.id).exists()
    first.release(job.id)  # as if the server had been killed
    assert second.take() is None
    assert not (tmp_path / "jobs" / job.id).exists()


def test_a_folder_that_cannot_be_written_is_refused_with_its_name(tmp_path):
    (tmp_path / "jobs").write_text("a file")
    with pytest.raises(StorageError, match=r"jobs=.*name a folder"):
        JobStore(tmp_path / "jobs", 1e9)


@pytest.mark.parametrize(
    "change",
    [{"runtime": "eager"}, {"version": "v2"}, {}, {"runtime_options": MappingProxyType({})}],
)
def test_a_prediction_with_other_settings_begins_again(tmp_path, video, change):
    upload, output = tmp_path / "a.mp4", tmp_path / "output"
    upload.write_bytes(video)
    options = {"formats": ["regions"]}

    def stop(done, total):
        if done == 5:
            raise Interrupted("the server ends")

    with pytest.raises(Interrupted):
        UploadPredictor(served(), 10**6).predict(upload, output, options, stop)
    lines = output / "regions" / "a.jsonl"
    before = lines.read_bytes()
    later = replace(served(), **change)
    UploadPredictor(later, 10**6).predict(upload, output, options, lambda *_: None)
    is_same = later.runtime == "auto" and later.version == "v1"
    assert lines.read_bytes().startswith(before) == is_same
    assert len(list(frames_of(lines))) == 10


def test_the_engine_of_the_server_computes_its_jobs(tmp_path, monkeypatch):
    engine = replace(served(), runtime="onnx", runtime_options={"threads": 1})
    seen = []
    monkeypatch.setattr(predictor, "predict", lambda model, request, *_: seen.append(request))
    monkeypatch.setattr(predictor.Options, "_check_parts", lambda self: None)
    UploadPredictor(engine, 10**6).predict(tmp_path / "a.png", tmp_path, {}, print)
    assert (seen[0].options.runtime, seen[0].options.runtime_options) == ("onnx", {"threads": 1})


def test_the_hosted_segmenters_clients_get_the_frames_of_a_video(tmp_path, video):
    request = {
        "model": {"output_info": {"output_config": {"sample_ms": 200}}},
        "inputs": [{"data": {"video": {"base64": base64.b64encode(video).decode()}}}],
    }
    with running(slot(), tmp_path) as client:
        answer = client("POST", "/v2/models/m/outputs", json.dumps(request).encode()).json
    frames = answer["outputs"][0]["data"]["frames"]
    assert [frame["frame_info"]["time"] for frame in frames] == [0, 200]
    assert frames[0]["data"]["regions"][0]["region_info"]["mask"]["image"]["base64"]


@pytest.mark.parametrize("smooth", ["none", "flow"])
def test_hosted_frames_are_those_of_predict(tmp_path, video, smooth):
    model, upload = served(), tmp_path / "a.mp4"
    upload.write_bytes(video)
    options = Options(formats=("clarifai",), sample_ms=80, smooth=smooth)
    request = PredictionRequest([str(upload)], tmp_path / "out", "", options)
    predict(model.segmenter, request)
    expected = json.loads((tmp_path / "out" / "clarifai" / "a.json").read_text())
    threads = ComputeThreads(model.segmenter)

    async def frames():
        return await hosted_frames(video, model, options, threads, asyncio.Semaphore(1))

    try:
        assert asyncio.run(frames()) == expected["outputs"][0]["data"]["frames"]
    finally:
        threads.close()


def test_a_video_that_nobody_waits_for_leaves_its_place_to_others(tmp_path, video, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = served()
    threads = ComputeThreads(model.segmenter)

    def videos():
        return list(tmp_path.rglob("*/*"))

    async def give_up():
        decoded = asyncio.Semaphore(1)
        await decoded.acquire()  # the lanes are full
        work = hosted_frames(video, model, Options(sample_ms=40), threads, decoded)
        task = asyncio.ensure_future(work)
        while not videos():
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        decoded.release()
        assert not videos()
        return await threads.compute(lambda: "next")

    try:
        assert asyncio.run(give_up()) == "next"
    finally:
        threads.close()


def test_a_video_of_too_large_frames_is_refused(tmp_path, video):
    with running(slot(), tmp_path, max_pixels=1000) as client:
        job = client.finished(client("POST", "/v1/jobs", video).json["id"])
        request = {"inputs": [{"data": {"video": {"base64": base64.b64encode(video).decode()}}}]}
        answer = client("POST", "/v2/models/m/outputs", json.dumps(request).encode()).json
    assert job["state"] == "failed"
    for words in (job["fault"], answer["outputs"][0]["status"]["details"]):
        assert "50 x 38 pixels; at most 1,000" in words


@contextmanager
def command(folder, **options):
    """`segtune serve` in a process of its own: its client and process."""
    words = [sys.executable, "-m", "segtune", "serve", f"model={folder / 'model'}", "port=0"]
    words += [f"{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr if "http://" in line)
        yield Client(int(line.split("127.0.0.1:")[1].split()[0])), process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_when_it_is_asked_to_and_goes_on_with_its_job(tmp_path, number):
    tiny_segmenter().save(tmp_path / "model")
    frames = clip(tmp_path / "long.mp4", [40 * n for n in range(400)]).read_bytes()
    with command(tmp_path) as (client, process):
        job_id = client("POST", "/v1/jobs?formats=regions", frames).json["id"]
        while client("GET", f"/v1/jobs/{job_id}").json["done"] < 5:
            assert client("POST", "/v1/segment", png(picture())).status == 200
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == 0
    lines = tmp_path / "jobs" / job_id / "output" / "regions" / "upload.jsonl"
    before = lines.read_bytes()
    assert 5 < len(before.splitlines()) < 400
    with command(tmp_path) as (client, process):
        assert client.finished(job_id)["state"] == "done"
    assert lines.read_bytes().startswith(before)
    assert len(list(frames_of(lines))) == 400
    assert not (tmp_path / "mlruns").exists()
