"""Claim: footprints shifted by 12 pixels against their scene are found within 2 pixels of the shift.

    python benchmarks/label_shift.py BUILDINGS_FOLDER

BUILDINGS_FOLDER holds train_tier_*/NAME/NAME_n.tif with footprints in NAME.geojson (longitude, latitude). Shifts are
measured against what is found for the labels as they are, which need not lie right themselves.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from segsmith.data.registration import LabelShift, label_shift

SHIFTS = ((12, 0), (0, 12), (-12, 0), (0, -12), (9, -8), (-6, 20))


def scene(tif: Path, geojson: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Image, mask of all footprints, and metres per pixel on the ground."""
    shapes = [feature["geometry"] for feature in json.loads(geojson.read_text())["features"]]
    with rasterio.open(tif) as file:
        image = file.read().transpose(1, 2, 0)
        latitude = transform_geom(file.crs, "EPSG:4326", {"type": "Point", "coordinates": file.xy(0, 0)})
        gsd_m = file.res[0] * np.cos(np.radians(latitude["coordinates"][1]))  # web mercator stretches by latitude
        there = [transform_geom("EPSG:4326", file.crs, shape) for shape in shapes]
        mask = rasterize(there, out_shape=file.shape, transform=file.transform, dtype="uint8").astype(bool)
    return np.ascontiguousarray(image), mask, float(gsd_m)


def said(found: LabelShift | None) -> str:
    if found is None:
        return "nothing stands out"
    return f"{found.dy:+d}, {found.dx:+d} px, {found.metres:.1f} m, {found.significance:.1f} deviations"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("buildings", type=Path)
    within, tried = 0, 0
    for tif in sorted(parser.parse_args().buildings.glob("train_tier_*/*/*.tif")):
        image, mask, gsd_m = scene(tif, tif.parent / f"{tif.parent.name}.geojson")
        start = time.perf_counter()
        own = label_shift(image, mask, gsd_m=gsd_m)
        print(f"{tif.name} {image.shape[:2]}: as it is {said(own)}; {time.perf_counter() - start:.1f} s")
        for down, right in SHIFTS:
            found = label_shift(image, np.roll(mask, (down, right), (0, 1)), gsd_m=gsd_m)
            tried += 1
            before = (own.dy, own.dx) if own else (0, 0)
            hit = found is not None and max(abs(found.dy - before[0] - down), abs(found.dx - before[1] - right)) <= 2
            within += hit
            print(f"  shifted by {down:+d}, {right:+d}: {said(found)}{'' if hit else '   <- not within 2 pixels'}")
    print(f"{within} of {tried} shifts within 2 pixels")


if __name__ == "__main__":
    main()
