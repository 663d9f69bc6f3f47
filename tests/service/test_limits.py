"""More than a service takes on is refused at once: for good, or for now."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from posted import encoded, geotiff, noise

from segsmith.prediction.probabilities import Predictor
from segsmith.service.limits import Limits, RefusedError, Room


@pytest.fixture
def held_up(monkeypatch):
    """While it is cleared, networks wait; `began` is set when they were asked."""
    free, began = threading.Event(), threading.Event()
    predict = Predictor.predict

    def waiting(self, *arguments):
        began.set()
        assert free.wait(30)
        return predict(self, *arguments)

    monkeypatch.setattr(Predictor, "predict", waiting)
    yield free, began
    free.set()


def test_more_requests_than_are_taken_on_are_told_to_come_again(serving, held_up):
    free, _ = held_up
    content = encoded(noise(32, 32))
    with serving(requests=3) as client, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(client.post, "/predict/image", content=content) for _ in range(8)]
        deadline = time.monotonic() + 30
        while sum(one.done() for one in asked) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = [one.result() for one in asked if one.done()]
        assert client.get("/health").status_code == 200, "it still answers"
        assert "segsmith_requests_at_once 3.0" in client.get("/metrics").text
        free.set()
        answers = [one.result() for one in asked]
        assert sorted(said.status_code for said in answers) == [200] * 3 + [429] * 5
        for said in refused:
            assert said.status_code == 429
            assert said.headers["retry-after"] == "1"
            assert "come again in a second" in said.json()["detail"]
        assert client.post("/predict/image", content=content).status_code == 200, "there is room again"
        text = client.get("/metrics").text
        assert 'segsmith_requests_total{path="/predict/image",status="429"} 5.0' in text
        assert "segsmith_requests_at_once 0.0" in text


def test_what_is_not_answered_in_time_is_given_up(serving, held_up):
    free, _ = held_up
    content = encoded(noise(32, 32))
    with serving(seconds=0.3) as client:
        said = client.post("/predict/image", content=content)
        assert (said.status_code, said.json()["detail"]) == (503, "not answered within 0.3 s; come again, or send less")
        free.set()
        for _ in range(20):
            if client.post("/predict/image", content=content).status_code == 200:
                break
        assert client.post("/predict/image", content=content).status_code == 200


def test_a_raster_that_nobody_waits_for_is_given_up(tmp_path, serving, monkeypatch):
    chips = []
    of_chips = Predictor.of_chips

    def slow(self, batch, extra):
        chips.append(len(batch))
        time.sleep(0.2)
        return of_chips(self, batch, extra)

    monkeypatch.setattr(Predictor, "of_chips", slow)
    with serving(seconds=0.5) as client:
        said = client.post("/predict/raster", content=geotiff(tmp_path / "a.tif", noise(2000, 64)))
        assert said.status_code == 503
        time.sleep(1)
        then = len(chips)
        time.sleep(1)
        assert len(chips) == then, "it goes on for nobody"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"upload_mb": 0.001}, "the upload is larger than 0.001 MiB; send a smaller one"),
        ({"pixels": 1000}, "the image is 32 x 64 pixels, more than 1,000; cut it"),
        ({"memory_mb": 0.01}, "needs more memory than the service may take; send a smaller one"),
    ],
)
def test_an_upload_beyond_a_limit_is_refused_for_good(serving, limits, says):
    with serving(**limits) as client:
        content = encoded(noise(32, 64))
        for body in (content, iter([content[:100], content[100:]])):  # with its length told beforehand, and without
            said = client.post("/predict/image", content=body)
            assert (said.status_code, said.json()) == (413, {"detail": says})


def test_a_raster_beyond_the_limit_of_pixels_is_refused_for_good(tmp_path, serving):
    with serving(pixels=1000) as client:
        said = client.post("/predict/raster", content=geotiff(tmp_path / "a.tif", noise(32, 64)))
        assert (said.status_code, said.json()["detail"][:27]) == (413, "the raster is 32 x 64 pixel")


def test_room_is_shared_and_given_back():
    room = Room(Limits(requests=2, memory_mb=1.0))
    with room.place() as first:
        first.take(2**19)
        with room.place() as second:
            second.take(2**19)
            with pytest.raises(RefusedError) as full:
                second.take(1)
            assert full.value.status == 429
            with pytest.raises(RefusedError) as too_large:
                second.take(2**19 + 1)
            assert too_large.value.status == 413
            with pytest.raises(RefusedError) as busy, room.place():
                pass
            assert busy.value.status == 429
        first.take(2**19)
    with pytest.raises(RefusedError):
        first.take(1)
    assert (room.requests, room.bytes) == (2, 2**20)
