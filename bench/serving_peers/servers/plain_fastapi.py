"""A plain FastAPI handler, as tutorials write it: one image after the other, in FastAPI's own pool of threads."""

from __future__ import annotations

import os
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI

from bench.serving_peers.servers.classifier import PORT, Answer, Classifier


def build_app(classifier: Classifier) -> FastAPI:
    """Build the app."""
    app = FastAPI()

    @app.post("/predict")
    def predict(image: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Answer:
        return classifier.classify([image])[0]

    return app


if __name__ == "__main__":
    uvicorn.run(
        build_app(Classifier.of_environment()),
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        log_level="warning",
        access_log=False,
    )
