"""Jobs: videos over HTTP, across restarts, deletions, limits and the hosted segmenter's clients."""

import base64
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from segtune.errors import Interrupted
from segtune.inference.prediction.files import frames_of
from segtune.serving import jobs, predictor
from segtune.serving.jobs import JobStore
from segtune.serving.predictor import SlotPredictor
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
    assert list((tmp_path / "jobs").iterdir()) == []


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

    def predict(self, upload, output, options, fresh, progress):
        self.started.set()
        while True:
            progress(1, 2)


def test_a_running_job_is_stopped_when_it_is_deleted(tmp_path):
    slow = SlowPredictor()
    store = JobStore(tmp_path / "jobs", 1e9, slow)
    job, path = store.reserve("a.mp4", {})
    path.write_bytes(b"x")
    store.start(job)
    assert slow.started.wait(10)
    store.delete(job.id)
    store.close()
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_half_done_job_that_waits_after_a_restart_can_be_deleted(tmp_path):
    slow = SlowPredictor()
    store = JobStore(tmp_path / "jobs", 1e9, slow)
    waiting = []
    for number in range(2):
        job, path = store.reserve(f"{number}.mp4", {})
        path.write_bytes(b"x")
        store.start(job)
        waiting.append(job)
    assert slow.started.wait(10)
    store.close()
    later = tmp_path / "jobs" / waiting[1].id / "job.json"
    later.write_text(later.read_text().replace('"queued"', '"running"'))  # as of a killed server

    store = JobStore(tmp_path / "jobs", 1e9, SlowPredictor())
    assert store.get(waiting[1].id).state == "queued"
    store.delete(waiting[1].id)
    assert [job.id for job in store.all()] == [waiting[0].id]
    store.close()


def test_a_job_that_fills_the_folder_fails_and_keeps_no_other_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_WRITE_EVERY", 0)

    class LargeOutput(SlowPredictor):
        def predict(self, upload, output, options, fresh, progress):
            output.mkdir()
            for frame in range(100):
                (output / f"{frame}").write_bytes(b"x" * 100)
                progress(frame, 100)

    store = JobStore(tmp_path / "jobs", 1000, LargeOutput())
    job, path = store.reserve("a.mp4", {})
    path.write_bytes(b"x")
    store.start(job)
    while store.get(job.id).state in ("queued", "running"):
        threading.Event().wait(0.01)
    failed = store.get(job.id)
    assert (failed.state, failed.done) == ("failed", 8)  # with job.json, before the tenth frame
    assert "delete finished ones" in failed.fault
    store.delete(job.id)
    assert store.reserve("b.mp4", {})
    store.close()


def test_a_full_folder_of_jobs_takes_no_more(tmp_path):
    store = JobStore(tmp_path / "jobs", 100, SlowPredictor())
    _, path = store.reserve("a.mp4", {})
    path.write_bytes(b"x" * 101)
    with pytest.raises(Problem, match="delete finished ones") as refused:
        store.reserve("b.mp4", {})
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    store.close()
    # the upload was never complete: the next server removes it
    JobStore(tmp_path / "jobs", 100, SlowPredictor()).close()
    assert list((tmp_path / "jobs").iterdir()) == []


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


def test_a_video_that_nobody_waits_for_is_given_up(tmp_path, video):
    predictor = SlotPredictor(slot(), 10**6)
    with pytest.raises(Interrupted, match="nobody waits"):
        predictor.video_frames(video, 40.0, lambda: True)


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
    frames = clip(tmp_path / "long.mp4", [40 * n for n in range(600)]).read_bytes()
    with command(tmp_path) as (client, process):
        job_id = client("POST", "/v1/jobs?formats=regions", frames).json["id"]
        while client("GET", f"/v1/jobs/{job_id}").json["done"] < 5:
            assert client("POST", "/v1/segment", png(picture())).status == 200
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == 0
    lines = tmp_path / "jobs" / job_id / "output" / "regions" / "upload.jsonl"
    before = lines.read_bytes()
    assert 5 < len(before.splitlines()) < 600
    with command(tmp_path) as (client, process):
        assert client.finished(job_id)["state"] == "done"
    assert lines.read_bytes().startswith(before)
    assert len(list(frames_of(lines))) == 600
    assert not (tmp_path / "mlruns").exists()
