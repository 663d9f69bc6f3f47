"""Claim: inspect finds footprints shifted by 12 pixels within 2 pixels of the shift, and nothing where they lie right.

    python benchmarks/label_shift.py AREA_FOLDER

AREA_FOLDER holds NAME_n.tif in EPSG:3857 with footprints in NAME.geojson (longitude, latitude), labelled right; all
scenes have pixels of one size, in map units.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import rasterio
import shapely
from rasterio.warp import transform_geom
from shapely.affinity import translate

from segsmith.eda.inspect import inspect

SHIFTS = ((0, 0), (12, 0), (0, -12), (9, -8))
"""Pixels down and right."""


def shifted(shape: dict, down: int, right: int, pixel: float) -> dict:
    """A geometry of longitudes and latitudes, moved by so many pixels of EPSG:3857."""
    there = shapely.geometry.shape(transform_geom("EPSG:4326", "EPSG:3857", shape))
    moved = translate(there, right * pixel, -down * pixel)
    return transform_geom("EPSG:3857", "EPSG:4326", shapely.geometry.mapping(moved))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", type=Path)
    area = parser.parse_args().area
    with rasterio.open(min(area.glob("*.tif"))) as file:
        pixel = file.res[0]
    labels = json.loads((area / f"{area.name}.geojson").read_text())
    for down, right in SHIFTS:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "raw", "train_tier_1", area.name)
            copy.mkdir(parents=True)
            for tif in area.glob("*.tif"):
                shutil.copyfile(tif, copy / tif.name)
            features = [
                feature | {"geometry": shifted(feature["geometry"], down, right, pixel)}
                for feature in labels["features"]
            ]
            (copy / f"{area.name}.geojson").write_text(json.dumps(labels | {"features": features}))
            start = time.perf_counter()
            findings = inspect(Path(folder, "raw"), Path(folder, "dataset")).findings
            seconds = time.perf_counter() - start
        found = [f"{one.image_id}: {one.reason}" for one in findings if one.kind == "label-shift"]
        print(f"shifted by {down:+d}, {right:+d} px: {'; '.join(found) or 'nothing found'} ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
