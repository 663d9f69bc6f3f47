"""Body of a request -> bytes of an image or GeoTIFF, within limits; nothing in it is taken for a name of a file."""

import asyncio
import re
import struct
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect

from segsmith.service.limits import Limits, Place, RefusedError

PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
PNG_ENDS = b"\0\0\0\0IEND\xaeB`\x82"
ZIP_ENDS = b"PK\x05\x06"
ZIP_ENTRY = b"PK\x01\x02"
LONGEST_ZIP_END = 2**16 + 22
CRS_TEXT = re.compile(rb"ESRI PE String([^\0]*)", re.IGNORECASE)
"""As GDAL recognises it; what follows reaches to the end of all citations, whose borders are not to be relied on."""
QUOTED = re.compile(rb'"[^"]*"')
NODE = re.compile(rb"(\w+)\s*[\[(]")
PLAIN_NODES = {
    "PROJCS", "GEOGCS", "GEOCCS", "DATUM", "SPHEROID", "PRIMEM", "UNIT", "PROJECTION", "PARAMETER", "AUTHORITY", "AXIS",
    "TOWGS84", "METADATA", "VERTCS", "VDATUM", "COMPD_CS", "VERT_CS", "VERT_DATUM", "LOCAL_CS", "LOCAL_DATUM",
}  # fmt: skip
"""Of WKT 1 as ESRI writes it."""


async def read_body(
    chunks: AsyncIterator[bytes], headers: dict[str, str], limits: Limits, place: Place, until: float
) -> bytes:
    """The whole body, if it is there by the time `until` of the event loop. Raises RefusedError."""
    kind = headers.get("content-type", "")
    if kind.startswith("multipart/"):
        raise RefusedError(415, "send the file as the body itself (curl --data-binary @FILE), not as a form")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.upload_bytes:
        raise _too_large(limits)
    content: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout_at(until):
            async for chunk in chunks:
                size += len(chunk)
                if size > limits.upload_bytes:
                    raise _too_large(limits)
                place.take(len(chunk))
                content.append(chunk)
    except TimeoutError:
        raise RefusedError(408, f"the upload did not end within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise RefusedError(408, "the upload was broken off") from None
    if not size:
        raise RefusedError(422, "the body is empty; send an image as the body (curl --data-binary @FILE)")
    return b"".join(content)


def check_one_file(content: bytes) -> None:
    """Raise RefusedError for an image that is something else as well: a ZIP archive may begin with any other file, and
    anything may follow a PNG. Whoever hands such files on could be made to hand on what would not have been let in."""
    if content.startswith(PNG_BEGINS) and not content.endswith(PNG_ENDS):
        whole = PNG_ENDS in content
        raise RefusedError(422, "bytes follow the end of the PNG" if whole else "the PNG is cut short")
    at = content.rfind(ZIP_ENDS, max(0, len(content) - LONGEST_ZIP_END))
    if at >= 0 and len(content) - at >= 22:
        (size,) = struct.unpack_from("<I", content, at + 12)
        if size == 0 or content.startswith(ZIP_ENTRY, max(0, at - size)):
            raise RefusedError(422, "is a ZIP archive as well as an image")


def check_crs(content: bytes) -> None:
    """Raise RefusedError for a GeoTIFF whose CRS may name files, such as grids of shifts: opening it, GDAL would make
    PROJ open them, whatever they are. CRS are codes and numbers but where a citation holds one as text."""
    for text in CRS_TEXT.findall(content):
        nodes = {node.decode().upper() for node in NODE.findall(QUOTED.sub(b"", text))}
        if strange := nodes - PLAIN_NODES:
            raise RefusedError(
                422, f"its CRS is a text with {min(strange)}, which may name files; give it an EPSG code"
            )


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"the upload is larger than {limits.upload_mb:g} MiB; send a smaller one")
