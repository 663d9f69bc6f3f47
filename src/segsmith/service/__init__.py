"""Bundle -> an HTTP service: images and GeoTIFFs come in, run lengths, PNG, GeoJSON and GeoTIFF go out."""
