"""The notes' own pipeline: Keras' ImageDataGenerator and model.fit on tensorflow-cpu.

    python bench/peers/notes_keras.py BATCH_SIZE [--seconds 10]

In a virtual environment of its own: `pip install tensorflow-cpu scipy`. Prints one JSON line with `images_per_s`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time

import keras
import numpy as np
from keras import layers
from keras.src.legacy.preprocessing.image import ImageDataGenerator

NUM_IMAGES = 10_000


def build_model() -> keras.Model:
    same = {"padding": "same", "activation": "relu", "kernel_initializer": "random_uniform"}
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(96, 11, strides=4, **same),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Conv2D(256, 5, **same),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Conv2D(384, 3, **same),
            layers.Conv2D(384, 3, **same),
            layers.Conv2D(256, 3, **same),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(4096, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(4096, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts batches after the third, and ends the training when the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.steps, self.began, self.elapsed = seconds, -3, 0.0, 0.0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.steps += 1
        if self.steps == 0:
            self.began = time.perf_counter()
        elif self.steps > 0:
            self.elapsed = time.perf_counter() - self.began
            if self.elapsed >= self.seconds and self.steps >= 5:
                self.model.stop_training = True
                raise StopIteration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    images = generator.standard_normal((NUM_IMAGES, 32, 32, 3)).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)[np.arange(NUM_IMAGES) % 10]
    flow = ImageDataGenerator(
        horizontal_flip=True, width_shift_range=0.125, height_shift_range=0.125, fill_mode="constant", cval=0.0
    ).flow(images, labels, batch_size=options.batch_size)
    model = build_model()
    rule = keras.optimizers.SGD(learning_rate=0.01, momentum=0.9, nesterov=True)
    model.compile(optimizer=rule, loss="categorical_crossentropy", metrics=["accuracy"])
    watch = Watch(options.seconds)
    with contextlib.suppress(StopIteration):
        model.fit(flow, epochs=1000, verbose=0, callbacks=[watch])
    print(json.dumps({"images_per_s": watch.steps * options.batch_size / watch.elapsed}))


if __name__ == "__main__":
    main()
