"""What the service answers is what `segsmith predict` writes, and whoever asks for something else is told so."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from posted import OPTIONS, encoded, geotiff, noise

from segsmith.delivery.predict import predict
from segsmith.delivery.predict_rasters import predict_rasters
from segsmith.modeling.bundle import Bundle, Cell, Decision

SIZES = ((48, 48), (40, 64), (33, 31), (64, 64), (48, 48), (90, 20))


def test_images_are_answered_as_predict_writes_them_however_they_come_together(tmp_path, client, bundle):
    suffixes = (".png", ".jpg", ".png", ".bmp", ".tif", ".webp")
    images = {f"i{number}{suffix}": b"" for number, suffix in enumerate(suffixes)}
    (tmp_path / "images").mkdir()
    for number, (name, hw) in enumerate(zip(images, SIZES, strict=True)):
        images[name] = encoded(noise(*hw, seed=number), suffixes[number])
        (tmp_path / "images" / name).write_bytes(images[name])
    predict(bundle, tmp_path / "images", tmp_path / "out", overlays=False)
    rows = pd.read_csv(tmp_path / "out" / "submission.csv", keep_default_na=False)
    expected = {str(name): [text for text in of if text] for name, of in rows.groupby("ImageId")["EncodedPixels"]}
    masks = {name: (tmp_path / "out" / "masks" / name).with_suffix(".png").read_bytes() for name in images}
    assert any(expected.values())

    def ask(name: str, answer: str) -> bytes:
        said = client.post("/predict/image", params={"answer": answer}, content=images[name])
        assert said.status_code == 200, said.text
        return said.content

    with ThreadPoolExecutor(6) as clients:
        for _ in range(3):
            pngs = list(clients.map(lambda name: ask(name, "png"), images))
            assert pngs == [masks[name] for name in images]
    for name in images:  # and one by one
        found = json.loads(ask(name, "runs"))
        (of_class,) = found["classes"]
        assert of_class["runs"] == expected[name]
        mask = cv2.imdecode(np.frombuffer(masks[name], np.uint8), cv2.IMREAD_UNCHANGED)
        assert (found["height"], found["width"]) == mask.shape
        assert (of_class["name"], of_class["pixels"]) == ("ship", int((mask > 0).sum()))
    batches = [line for line in client.get("/metrics").text.splitlines() if line.startswith("segsmith_batch_images_")]
    assert any(line.startswith("segsmith_batch_images_sum") and float(line.split()[1]) == 25 for line in batches)
    assert any(line.startswith("segsmith_batch_images_count") and float(line.split()[1]) < 25 for line in batches)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rasters_are_answered_as_predict_writes_them(tmp_path, client, bundle, dtype, square):
    pixels = noise(70, 90).astype(dtype) * (4 if dtype == "uint16" else 1)
    content = geotiff(tmp_path / "scene.tif", pixels)
    predict_rasters(bundle, tmp_path / "scene.tif", tmp_path / "out", vectors=("geojson",), square=square)

    def ask(answer: str):
        said = client.post("/predict/raster", params={"answer": answer, "square": square}, content=content)
        assert said.status_code == 200, said.text
        return said

    found = ask("geojson")
    assert found.headers["content-type"] == "application/geo+json"
    assert found.content == (tmp_path / "out" / "objects" / "scene.geojson").read_bytes()
    assert len(found.json()["features"]) > 3
    found = ask("geotiff")
    assert found.headers["content-type"] == "image/tiff"
    assert found.content == (tmp_path / "out" / "masks" / "scene.tif").read_bytes()
    mask = cv2.imdecode(np.frombuffer(ask("png").content, np.uint8), cv2.IMREAD_UNCHANGED)
    told = json.loads((tmp_path / "out" / "prediction.json").read_text())[0]
    assert int((mask > 0).sum()) == told["foreground_pixels"]["ship"] == ask("runs").json()["classes"][0]["pixels"]


def test_of_several_classes_a_png_shows_the_one_that_is_asked_for(serving, make_bundle):
    from segsmith.networks.networks import build_network

    made = make_bundle(*OPTIONS, layout="rle-masks")
    network = build_network(made.recipe.network, 2, made.mean, made.std)
    two = replace(
        made,
        members=(network.state_dict(),),
        classes=("a", "b"),
        decision=Decision((Cell(120), Cell(130))),
    )
    with serving(two) as client:
        content = encoded(noise(32, 32))
        runs = client.post("/predict/image", content=content).json()["classes"]
        assert [of["name"] for of in runs] == ["a", "b"]
        one = client.post("/predict/image", params={"class": "b"}, content=content).json()["classes"]
        assert one == runs[1:]
        said = client.post("/predict/image", params={"answer": "png"}, content=content)
        assert (said.status_code, said.json()["detail"]) == (422, "a PNG shows one class; say which: class=a|b")
        said = client.post("/predict/image", params={"answer": "png", "class": "a"}, content=content)
        assert int((cv2.imdecode(np.frombuffer(said.content, np.uint8), -1) > 0).sum()) == runs[0]["pixels"]
        said = client.post("/predict/image", params={"class": "c"}, content=content)
        assert (said.status_code, said.json()["detail"]) == (422, "class: Input should be 'a' or 'b'")


def test_numbers_of_an_image_are_asked_for(serving, make_bundle):
    made = make_bundle(*OPTIONS, "data.extra=[z]", bands=4)
    with serving(replace(made, extra=((0.0, 10.0),))) as client:
        assert client.get("/model").json()["numbers"] == ["z"]
        assert client.get("/model").json()["bands"] == 3
        said = client.post("/predict/image", content=encoded(noise(32, 32)))
        assert (said.status_code, said.json()["detail"]) == (422, "number_z: Field required")
        assert client.post("/predict/image?number_z=3.5", content=encoded(noise(32, 32))).status_code == 200


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("answer=svg", "answer: Input should be 'runs' or 'png'"),
        ("path=/etc/passwd", "path: Extra inputs are not permitted"),
        ("image=file:///etc/passwd", "image: Extra inputs are not permitted"),
        ("class=../../etc/passwd", "class: Input should be 'ship'"),
    ],
)
def test_a_question_that_is_none_is_refused(client, question, says):
    said = client.post(f"/predict/image?{question}", content=encoded(noise(32, 32)))
    assert (said.status_code, said.json()) == (422, {"detail": says})


@pytest.mark.parametrize("path", ["/predict/image", "/predict/raster", "/model", "/metrics"])
def test_with_a_token_all_that_predicts_or_tells_asks_for_it(serving, path):
    ask = "POST" if path.startswith("/predict") else "GET"
    with serving(token="secret") as client:
        for headers in ({}, {"Authorization": "Bearer secrets"}, {"Authorization": "Basic secret"}):
            said = client.request(ask, path, headers=headers)
            assert said.status_code == 401
            assert said.json() == {"detail": "send the token of this service: 'Authorization: Bearer TOKEN'"}
            assert said.headers["www-authenticate"] == "Bearer"
        assert client.request(ask, path, headers={"Authorization": "Bearer secret"}).status_code in (200, 422)
        assert client.get("/health").json() == {"state": "alive"}


def test_it_is_ready_once_it_has_predicted(client):
    assert client.post("/predict/image", content=encoded(noise(32, 32))).status_code == 200
    assert (client.get("/ready").status_code, client.get("/ready").json()) == (200, {"state": "ready"})


def test_objects_of_a_raster_that_touch_come_apart_as_polygons_alone(tmp_path, serving, bundle):
    apart = replace(Bundle.read(bundle), decision=Decision((Cell(1, depth=8),), separate_by="distance"))
    content = geotiff(tmp_path / "a.tif", noise(32, 32))
    with serving(apart) as client:
        assert client.post("/predict/raster", content=content).status_code == 200
        said = client.post("/predict/raster", params={"answer": "runs"}, content=content)
    assert said.status_code == 422
    assert said.json()["detail"].startswith("objects of the raster that touch are taken apart, and run lengths")


def test_rasters_are_refused_where_the_decision_cannot_follow_them(tmp_path, serving, bundle):
    gated = replace(Bundle.read(bundle), decision=Decision((Cell(128, gate=10),), gate_by="top_k"))
    with serving(gated) as client:
        said = client.post("/predict/raster", content=geotiff(tmp_path / "a.tif", noise(32, 32)))
    assert said.status_code == 422
    assert said.json()["detail"].startswith("the raster: was decided with a gate for empty images")


def test_a_model_of_stated_metres_a_pixel_asks_for_them_in_the_words_of_the_service(tmp_path, serving, make_bundle):
    asked = make_bundle(*OPTIONS, "data.fit=chip", "data.gsd_m=0.3")
    placeless = geotiff(tmp_path / "a.tif", noise(32, 32), crs=None, transform=None)
    with serving(asked) as client:
        image = client.post("/predict/image", content=encoded(noise(32, 32)))
        raster = client.post("/predict/raster", content=placeless)
        told = client.post("/predict/raster", params={"scale": 0.5, "answer": "png"}, content=placeless)
    assert (image.status_code, raster.status_code, told.status_code) == (422, 422, 200)
    unknown = "does not say how many metres a pixel is, and the model sees 0.3; "
    assert image.json()["detail"].startswith(f"the image: {unknown}send a GeoTIFF to /predict/raster")
    asks = "say what it is to be enlarged by: scale=FACTOR in the question"
    assert raster.json()["detail"] == f"the raster: {unknown}{asks}"
