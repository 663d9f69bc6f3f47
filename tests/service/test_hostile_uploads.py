"""Uploads made to harm: each is refused with a reason, in little memory, while others are served."""

import io
import json
import re
import resource
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from posted import encoded, geotiff, noise

MIB_MORE = 200
"""Memory that a refusal may take beyond what was taken before."""


def png_of(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("evil.html", "<script>alert(1)</script>")
    return content.getvalue()


def tiff_bomb(side: int = 30_000) -> bytes:
    """Nine hundred megapixels of nothing, sparse, in some kilobytes."""
    with rasterio.MemoryFile() as memory:
        profile = {"tiled": True, "blockxsize": 4096, "blockysize": 4096, "compress": "deflate", "sparse_ok": True}
        with memory.open(driver="GTiff", width=side, height=side, count=3, dtype="uint8", **profile):
            pass
        content = bytes(memory.read())
    assert len(content) < 2**16
    return content


def gif_bomb() -> bytes:
    """One frame that says it is 65 535 pixels a side."""
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"\x2c" + bytes(8) + b"\0\x02\0\x3b"


def html_jpeg() -> bytes:
    return b"<html><body>\xff\xd8\xff\xe0<script>alert(1)</script></body></html>"


VRT = b"""<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>/vsicurl/http://127.0.0.1:9/secret.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@cache
def png() -> bytes:
    return encoded(noise(48, 48))


IMAGES = {
    "nothing": (lambda: b"", 422, "the body is empty"),
    "noise": (lambda: np.random.default_rng(0).bytes(4096), 422, "the image: does not decode as an image"),
    "a PNG cut short": (lambda: png()[: len(png()) // 2], 422, "the PNG is cut short"),
    "a JPEG cut short": (lambda: encoded(noise(64, 64), ".jpg")[:-200], 422, "the image: does not decode as an image"),
    "a TIFF cut short": (lambda: encoded(noise(64, 64), ".tif")[:-200], 422, "the image: does not decode as an image"),
    "a PNG bomb": (lambda: png_of(50_000, 50_000, bytes(10**6)), 422, "more than 134,217,728 pixels"),
    "a PNG bomb below that": (lambda: png_of(11_000, 11_000, bytes(10**6)), 413, "the image is 11,000 x 11,000 pixels"),
    "a TIFF bomb": (tiff_bomb, 422, "more than 134,217,728 pixels"),
    "rows without end": (lambda: png_of(8, 8, bytes(10**8)), 200, ""),
    "a GIF bomb": (gif_bomb, 422, "it is none of JPEG, PNG"),
    "SVG": (lambda: SVG, 422, "it is none of JPEG, PNG"),
    "HTML for a JPEG": (html_jpeg, 422, "it is none of JPEG, PNG"),
    "a VRT": (lambda: VRT, 422, "it is none of JPEG, PNG"),
    "a ZIP": (archive, 422, "is a ZIP archive as well"),
    "a PNG with a ZIP behind it": (lambda: png() + archive(), 422, "bytes follow the end of the PNG"),
    "a JPEG with a ZIP behind it": (lambda: encoded(noise(48, 48), ".jpg") + archive(), 422, "is a ZIP archive"),
    "a TIFF with a ZIP behind it": (lambda: encoded(noise(48, 48), ".tif") + archive(), 422, "is a ZIP archive"),
    "one band": (lambda: encoded(noise(48, 48)[:, :, 0]), 422, "number of bands is 1, the model was trained on 3"),
    "four bands": (
        lambda: encoded(np.dstack([noise(48, 48), noise(48, 48)[:, :, 0]])), 422, "number of bands is 4",
    ),
    "16 bits": (lambda: encoded(noise(48, 48).astype(np.uint16) * 256), 422, "colours of 16 bits a band"),
    "floats": (lambda: encoded(np.full((48, 48), np.nan, np.float32), ".tif"), 422, "float32 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_refused(client, name):
    make, status, says = IMAGES[name]
    refuses(client, "/predict/image", make(), status, says)


def refuses(client, path: str, content: bytes, status: int, says: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = client.post(path, content=content)
    assert said.status_code == status, said.text
    if status != 200:
        assert set(said.json()) == {"detail"}
        assert says in said.json()["detail"]
        assert "/tmp" not in said.text
        assert "0x" not in said.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MIB_MORE * 1024
    assert client.post("/predict/image", content=png()).status_code == 200, "others are served"


def made(pixels: np.ndarray, **profile: object):
    return lambda at: geotiff(at / "made.tif", pixels, **profile)


def huge_tiles(at: Path) -> bytes:
    content = bytearray(geotiff(at / "made.tif", noise(64, 64), tiled=True, blockxsize=32, blockysize=32))
    (begin,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, begin)[0]):
        (tag,) = struct.unpack_from("<H", content, here := begin + 2 + 12 * entry)
        if tag in (322, 323):  # TileWidth, TileLength
            struct.pack_into("<HHII", content, here, tag, 4, 1, 2**20)
    return bytes(content)


def grids(at: Path) -> bytes:
    """Its CRS is a text that names a grid of shifts, which PROJ would open: GDAL reads such texts from the key 3073."""
    rest = ',UNIT["metre",1]]'
    ellipsoid = 'SPHEROID["s",6377397.155,299.15]'
    wkt = 'PROJCS["{}",GEOGCS["g",DATUM["d",{}],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION'
    wkt += '["Transverse_Mercator"],PARAMETER["central_meridian",9],PARAMETER["scale_factor",1]' + rest
    room = "N" * 600
    content = geotiff(at / "made.tif", noise(64, 64), crs=rasterio.crs.CRS.from_wkt(wkt.format(room, ellipsoid)))
    text = "ESRI PE String = " + wkt.format("x", ellipsoid + f',EXTENSION["PROJ4_GRIDS","{at}/secret"]')
    assert room.encode() in content
    content = content.replace(room.encode(), text.ljust(len(room)).encode())
    begin = content.index(struct.pack("<HHH", 1, 1, 0))
    keys = [struct.unpack_from("<4H", content, begin + 8 * number) for number in range(1, content[begin + 6] + 1)]
    keys = sorted((3073 if key == 1026 else key, *rest) for key, *rest in keys)
    return (
        content[: begin + 8] + b"".join(struct.pack("<4H", *key) for key in keys) + content[begin + 8 + 8 * len(keys) :]
    )


FLOATS = noise(64, 64).astype(np.float32)
NOWHERE = rasterio.Affine(np.nan, 0, 0, 0, np.nan, 0)
RASTERS = {
    "nothing": (lambda at: b"", 422, "the body is empty"),
    "a PNG": (lambda at: png(), 422, "the raster: does not read as a GeoTIFF"),
    "a VRT": (lambda at: VRT, 422, "the raster: does not read as a GeoTIFF"),
    "SVG": (lambda at: SVG, 422, "the raster: does not read as a GeoTIFF"),
    "a GeoTIFF cut short": (lambda at: made(noise(64, 64))(at)[:-4000], 422, "the raster: does not read as a GeoTIFF"),
    "a ZIP behind it": (lambda at: made(noise(64, 64))(at) + archive(), 422, "is a ZIP archive"),
    "a bomb": (lambda at: tiff_bomb(), 413, "the raster is 30,000 x 30,000 pixels"),
    "huge tiles": (huge_tiles, 422, "the raster: does not read as a GeoTIFF"),
    "two bands": (made(noise(64, 64)[:, :, :2]), 422, "number of bands is 2, the model was trained on 3"),
    "forty bands": (made(np.repeat(noise(64, 64)[:, :, :1], 40, axis=2)), 422, "40 bands beside alpha"),
    "no number": (made(FLOATS * np.nan), 422, "holds no usable pixel"),
    "no finite number": (made(FLOATS * np.inf), 422, "holds no usable pixel"),
    "complex numbers": (made(noise(64, 64).astype(np.complex64)), 422, "bands of complex64"),
    "no place": (made(noise(64, 64), crs=None), 422, "does not say where it lies"),
    "a place that is no number": (made(noise(64, 64), transform=NOWHERE), 422, "lies at no finite place"),
    "a pixel of a kilometre": (
        made(noise(64, 64), transform=rasterio.Affine(1e3, 0, 5e5, 0, -1e3, 5e6)), 422, "a pixel is 1e+03 m",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RASTERS)
def test_a_raster_is_refused(tmp_path, client, name):
    make, status, says = RASTERS[name]
    refuses(client, "/predict/raster", make(tmp_path), status, says)


def test_a_crs_that_names_files_is_not_looked_at(tmp_path, client, caplog):
    content = grids(tmp_path)
    refuses(client, "/predict/raster", content, 422, "its CRS is a text with EXTENSION, which may name files")
    assert not caplog.records
    with rasterio.MemoryFile(content) as memory, memory.open():
        assert "could not find required grid" in caplog.text, "that is what GDAL would have done"


def test_a_crs_in_the_words_of_others_is_taken(tmp_path, client):
    plain = re.sub(rb',EXTENSION\["PROJ4_GRIDS","[^"]*"\]', lambda found: b" " * len(found[0]), grids(tmp_path))
    said = client.post("/predict/raster?scale=1&answer=geotiff", content=plain)
    assert said.status_code == 200, said.text


def test_an_enlargement_beyond_all_measure_is_refused(tmp_path, client):
    content = geotiff(tmp_path / "a.tif", noise(64, 64))
    said = client.post("/predict/raster?scale=100", content=content)
    assert (said.status_code, said.json()["detail"][:60]) == (
        413, "the raster, enlarged 100 times for the networks, is 6,400 x ",
    )  # fmt: skip


def test_names_of_files_are_of_no_account(client, tmp_path):
    """In headers, in the type, in a form: none is opened, made, or told."""
    before = sorted(tmp_path.rglob("*"))
    names = ("../../etc/passwd", "/etc/passwd", f"{tmp_path}/made.png", "..\\..\\x.png", "a.png\0.php")
    plain = client.post("/predict/image", content=png()).content
    for name in names:
        headers = {"Content-Disposition": f'attachment; filename="{name.replace(chr(0), "%00")}"', "X-Filename": "../x"}
        said = client.post("/predict/image", content=png(), headers=headers | {"Content-Type": "text/../../etc"})
        assert (said.status_code, said.content) == (200, plain)
        said = client.post("/predict/image", files={"file": (name, png(), "image/png")})
        assert said.status_code == 415
        assert said.json()["detail"].startswith("send the file as the body itself")
    for path in ("/predict/../../etc/passwd", "/predict/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/etc/passwd"):
        assert client.get(path).status_code == 404
    assert sorted(tmp_path.rglob("*")) == before
    assert json.loads(plain)["classes"][0]["runs"]


def test_what_is_decoded_is_no_more_than_the_image(client):
    """A PNG whose rows go on for a hundred megabytes is the picture that its header says."""
    black = client.post("/predict/image", content=encoded(np.zeros((8, 8, 3), np.uint8))).json()
    assert client.post("/predict/image", content=png_of(8, 8, bytes(10**8))).json() == black
    assert cv2.imdecode(np.frombuffer(png(), np.uint8), cv2.IMREAD_COLOR).shape == (48, 48, 3)
