"""Hypermodels to search, in a module of their own so that a child process can import them."""

import keras
import keras_tuner as kt


class Parabola(kt.HyperModel):
    """Score (x - 0.3)^2 without training, so that a search costs nothing; counts its runs."""

    def __init__(self, score=None):
        super().__init__()
        self.score = score or (lambda values: (values["x"] - 0.3) ** 2)
        self.seen = []

    def build(self, hp):
        hp.Float("x", 0.0, 1.0)
        hp.Choice("kind", ["plain", "fancy"])
        return keras.Sequential([keras.layers.Dense(1)])

    def fit(self, hp, model, *args, **kwargs):
        self.seen.append(dict(hp.values))
        return self.score(hp.values)


def build_line(hp):
    """A Dense layer whose learning rate decides whether it learns or diverges."""
    learning_rate = hp.Float("learning_rate", 1e-3, 1e1, sampling="log")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model
