"""Folder with a STAC catalogue -> its GeoTIFF scenes and the vector files that label them."""

import json
from os.path import normpath
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from segsmith.data.scene_files import Found, Scene
from segsmith.errors import DataError, listed

STAC_NAMES = ("catalog.json", "collection.json")
"""What a STAC folder begins with."""


def stac_document(file: Path) -> dict[str, Any] | None:
    """A STAC catalog, collection or item; None for any other JSON."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    if not isinstance(document, dict) or "stac_version" not in document:
        return None
    kinds = ("Catalog", "Collection", "Feature")
    if document.get("type") not in kinds:  # before version 1.0 only items had a type
        document["type"] = "Collection" if "extent" in document else "Catalog"
    return document


def has_geotiff(document: dict[str, Any]) -> bool:
    """Whether a STAC document names a GeoTIFF among its assets, be it there or not."""
    assets = document.get("assets")
    return isinstance(assets, dict) and any(_is_geotiff(a) for a in assets.values() if isinstance(a, dict))


def stac_scenes(raw: Path, documents: dict[Path, dict[str, Any]]) -> Found:
    """The items with a GeoTIFF among the STAC documents of a folder, each with the label items that link to it.

    Raises DataError naming each link and asset that is missing, remote, or leads out of the folder.
    """
    problems: list[str] = []

    def target(document: Path, href: object) -> Path | None:
        """The file a link or an asset means; None, and a problem noted, where it is not in the folder."""
        where = document.relative_to(raw)
        if not isinstance(href, str) or "://" in href or href.startswith(("/vsi", "\\")):
            problems.append(
                f"{where}: {href} is no file of this folder; download it and link to it by its relative path"
            )
            return None
        path = Path(normpath(document.parent / unquote(href)))
        if not path.is_relative_to(raw) or not path.resolve().is_relative_to(raw):
            problems.append(f"{where}: {href} leads out of {raw}; move the file into the folder")
            return None
        if not path.is_file():
            problems.append(f"{where}: {href} is missing")
            return None
        return path

    images: dict[Path, Scene] = {}
    labels: list[tuple[Path, list[Path]]] = []
    for file, document in documents.items():
        for link in _dicts(document.get("links")):
            if link.get("rel") in ("child", "item"):
                target(file, link.get("href"))
        if document["type"] != "Feature":
            continue
        assets = document.get("assets")
        named = [(name, a) for name, a in assets.items() if isinstance(a, dict)] if isinstance(assets, dict) else []
        pictures = [(name, asset) for name, asset in named if _is_geotiff(asset)]
        outlines = [target(file, asset.get("href")) for _, asset in named if _is_outlines(asset)]
        if len(pictures) > 1:
            preferred = [(n, a) for n, a in pictures if n in ("image", "visual", "data")]
            if len(preferred) != 1:
                names = ", ".join(name for name, _ in pictures)
                problems.append(
                    f"{file.relative_to(raw)}: several GeoTIFF assets ({names}); call the one to use 'image'"
                )
            pictures = preferred[:1]
        for _, asset in pictures:
            if path := target(file, asset.get("href")):
                images[file] = Scene(path)
        sources = [link for link in _dicts(document.get("links")) if link.get("rel") == "source"]
        items = [item for link in sources if (item := target(file, link.get("href")))] or [file] * bool(pictures)
        for outline in outlines:
            if outline and not items and not sources:
                problems.append(
                    f"{file.relative_to(raw)}: has labels but no link rel=source to the item of their image"
                )
            elif outline:
                labels.append((outline, items))
    for outline, items in labels:
        for item in items:
            if item in images:
                images[item].labels.append(outline)
            else:
                problems.append(f"{item.relative_to(raw)}: is linked as source of labels, but has no GeoTIFF asset")
    if not images and not problems:
        problems.append("no item has a GeoTIFF asset")
    if problems:
        raise DataError(f"{raw}: the STAC folder cannot be used as it is\n{listed(list(dict.fromkeys(problems)))}")
    return Found(
        "stac",
        f"STAC folder of {len(images)} items with a GeoTIFF, {sum(bool(s.labels) for s in images.values())} labelled",
        tuple(images[file] for file in sorted(images)),
    )


def _dicts(found: object) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _is_geotiff(asset: dict[str, Any]) -> bool:
    href, kind = str(asset.get("href")).lower(), str(asset.get("type")).lower()
    return href.endswith((".tif", ".tiff")) or "geotiff" in kind


def _is_outlines(asset: dict[str, Any]) -> bool:
    href, kind = str(asset.get("href")).lower(), str(asset.get("type")).lower()
    return href.endswith((".geojson", ".gpkg", ".shp", ".fgb", ".parquet")) or "geo+json" in kind
