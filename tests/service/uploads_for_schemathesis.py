"""What schemathesis is to send as images: without this it would send bytes that are none."""

import io

import hypothesis.strategies as st
import rasterio
import schemathesis
from PIL import Image
from posted import noise

SIZES = st.integers(1, 64)


@st.composite
def images(draw: st.DrawFn, kind: str) -> bytes:
    content = io.BytesIO()
    pixels = noise(draw(SIZES), draw(SIZES), seed=draw(st.integers(0, 9)))
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@st.composite
def geotiffs(draw: st.DrawFn) -> bytes:
    """They lie in UTM: a raster without a place has no GeoJSON."""
    pixels = noise(draw(SIZES), draw(SIZES), seed=draw(st.integers(0, 9))).transpose(2, 0, 1)
    place = {"crs": "EPSG:32631", "transform": rasterio.transform.from_origin(5e5, 5e6, 0.2, 0.2)}
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=3, height=pixels.shape[1], width=pixels.shape[2], dtype="uint8", **place
        ) as file:
            file.write(pixels)
        return bytes(memory.read())


for kind in ("PNG", "JPEG", "BMP", "WEBP"):
    schemathesis.openapi.media_type(f"image/{kind.lower()}", images(kind))
schemathesis.openapi.media_type("image/tiff", geotiffs())
