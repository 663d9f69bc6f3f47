"""What a service counts of itself, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)


class Metrics:
    """One registry for each service, so that several may live in one process."""

    def __init__(self, backend: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        Info("segsmith_backend", "What runs the networks.", registry=self._registry).info({"name": backend})
        self.requests = Counter("segsmith_requests", "Requests answered.", ("path", "status"), registry=self._registry)
        self.seconds = Histogram(
            "segsmith_request_seconds", "From a request to its answer.", ("path",), buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self.at_once = Gauge("segsmith_requests_at_once", "Requests that hold a place.", registry=self._registry)
        self.batches = Histogram(
            "segsmith_batch_images", "Images that went through the networks together.",
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=self._registry,
        )  # fmt: skip
        self.pixels = Counter("segsmith_pixels", "Pixels of images and rasters predicted.", registry=self._registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
