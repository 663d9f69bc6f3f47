"""What is said to the review routes is believed only where it fits the dataset; nothing else is written."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from reviewing import HW, said
from starlette.testclient import TestClient

from segsmith.data.corrections import Correction, say, version_of
from segsmith.data.dataset import Dataset
from segsmith.errors import StaleError
from segsmith.viewer import review_routes
from segsmith.viewer.app import make_viewer

ROOT = "/api/runs/0/review"


@pytest.fixture
def client(reviewed):
    with TestClient(make_viewer([reviewed.folder])) as client:
        yield client


def verdict(client, image, **of):
    version = client.get(f"{ROOT}/image", params={"id": image}).json()["version"]
    body = {"image": image, "class_id": 0, "verdict": "replace", "runs": "1 3 4 2", "version": version} | of
    return client.put(f"{ROOT}/verdict", content=json.dumps(body))


def test_runs_are_written_as_every_reader_of_them_wants_them(client, reviewed):
    image = reviewed.ids[0]
    assert verdict(client, image).status_code == 200
    assert said(reviewed)[image] == ("replace", "1 5"), "two runs that touch are one"
    assert verdict(client, image, runs="").status_code == 200
    assert said(reviewed)[image] == ("empty", "")
    assert client.get(ROOT).json()["verdicts"] == [[image, 0, "empty"]]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ({"runs": "1 2 2 2"}, "overlaps"),
        ({"runs": f"{HW[0] * HW[1]} 2"}, "ends beyond the image"),
        ({"runs": "0 4"}, "starts before pixel 1"),
        ({"runs": "1 x"}, "not a whole number"),
        ({"runs": "1 99999999999999999999"}, "beyond any image"),
        ({"runs": "1 3", "verdict": "keep"}, "run lengths belong to 'replace'"),
        ({"verdict": "burn"}, "verdict"),
        ({"verdict": "leave out", "runs": ""}, "an image is left out"),
        ({"class_id": None}, "an image is left out"),
        ({"class_id": 7}, "there are 1"),
        ({"class_id": -1}, "there are 1"),
        ({"class_id": "0"}, "class_id"),
        ({"version": "0"}, "look at it again"),
        ({"image": "../../etc/passwd"}, "no image"),
        ({"image": "a\nb,c"}, "no image"),
        ({"path": "/etc/passwd"}, "path"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence_and_not_written(client, reviewed, of, words):
    version = client.get(f"{ROOT}/image", params={"id": reviewed.ids[0]}).json()["version"]
    body = {"image": reviewed.ids[0], "class_id": 0, "verdict": "replace", "runs": "1 3", "version": version} | of
    answer = client.put(f"{ROOT}/verdict", content=json.dumps(body))
    assert answer.status_code == (409 if "version" in of else 422)
    assert words in answer.json()["said"]
    assert not reviewed.file.exists()


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b'{"image": ', b"null", b"[" * 100_000])
def test_a_body_that_is_no_verdict_is_refused(client, reviewed, body):
    answer = client.put(f"{ROOT}/verdict", content=body)
    assert answer.status_code == 422
    assert "the body is no verdict" in answer.json()["said"]
    assert not reviewed.file.exists()


def test_a_body_beyond_any_mask_is_not_read_to_its_end(client, reviewed, monkeypatch):
    monkeypatch.setattr(review_routes, "MOST_BYTES", 1000)
    answer = client.put(f"{ROOT}/verdict", content=(b"1 1 " * 100 for _ in range(1000)))
    assert answer.status_code == 413
    assert not reviewed.file.exists()


@pytest.mark.parametrize("address", ["/api/runs/1/review", "/api/runs/-1/review", f"{ROOT}/picture?id=/etc/passwd"])
def test_what_is_not_looked_at_is_not_told(client, address):
    answer = client.get(address)
    assert (answer.status_code, answer.headers["refused"]) == (200, "yes"), "a browser calls any other status an error"
    assert list(answer.json()) == ["said", "command"]


def test_another_sites_page_says_nothing(client, reviewed):
    for method, path in (("put", "verdict"), ("post", "correct")):
        answer = client.request(method, f"{ROOT}/{path}", headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
    assert not reviewed.file.exists()


def test_nothing_is_put_beside_the_dataset_before_something_was_said(client, reviewed):
    answer = client.post(f"{ROOT}/correct")
    assert "nothing was said yet" in answer.json()["said"]
    assert not (reviewed.dataset / "corrections.csv").exists()


def test_verdicts_at_the_same_time_are_all_kept(client, reviewed):
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda image: verdict(client, image, verdict="keep", runs=""), reviewed.ids))
    assert {answer.status_code for answer in answers} == {200}
    assert set(said(reviewed)) == set(reviewed.ids)


def test_a_mask_as_ragged_as_can_be_is_said_and_read_again(reviewed, client, command):
    """More characters than a field of a CSV may have by default."""
    ragged = " ".join(f"{pixel} 1" for pixel in range(1, HW[0] * HW[1], 2))
    assert verdict(client, reviewed.ids[0], runs=ragged).status_code == 200
    assert said(reviewed)[reviewed.ids[0]] == ("replace", ragged)
    long = Correction("b", "object", "replace", " ".join(f"{pixel} 1" for pixel in range(1, 100_000, 2)))
    assert say(reviewed.file, long, version_of([], "b"))[-1] == long


def test_what_was_put_beside_the_dataset_is_the_label_from_then_on(client, reviewed):
    image = reviewed.ids[0]
    verdict(client, image)
    assert client.post(f"{ROOT}/correct").json() == {"replace": 1}
    assert client.get(f"{ROOT}/image", params={"id": image}).json()["labels"][0]["label"] == "1 5"
    assert client.get(ROOT).json()["all_put"]
    opened = Dataset.open(reviewed.dataset)
    assert opened.mask(list(opened.images["image_id"]).index(image)).sum() == 5


def test_what_is_said_of_a_class_takes_an_image_in_again_and_what_is_taken_back_is_gone(tmp_path):
    file = tmp_path / "corrections.csv"
    one, other = Correction("a", "ship", "keep"), Correction("a", "boat", "empty")
    out = Correction("a", "", "leave out")
    said = say(file, one, version_of([], "a"))
    said = say(file, out, version_of(said, "a"))
    assert said == [one, out], "what was said of a class comes back with the image"
    stale = version_of(said, "a")
    said = say(file, other, stale)
    assert said == [one, other]
    with pytest.raises(StaleError, match="look at it again"):
        say(file, out, stale)
    assert say(file, one, version_of(said, "a"), taken_back=True) == [other]
    assert say(file, Correction("b", "ship", "keep"), version_of([], "b"))[0] == other, "others may be said at any time"
