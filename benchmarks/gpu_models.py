"""The models of the GPU benchmark in Keras; ``peers/gpu_torch_models.py`` has them in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.gpu_work import CLASSES, PARAMETERS, SHAPES, Model

if TYPE_CHECKING:
    import keras


def build(name: Model) -> keras.Model:
    """Return a model that is not compiled."""
    made = {"cnn": cnn, "resnet18": resnet18, "cifar-cnn": cifar_cnn}[name]
    model = made(SHAPES[name], CLASSES)
    assert model.count_params() == PARAMETERS[name], model.count_params()
    return model


def cnn(shape: tuple[int, ...], classes: int) -> keras.Model:
    """The CNN of all benchmarks: Sunflower's own by that name, written out for the others."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(classes),
        ]
    )


def cifar_cnn(shape: tuple[int, ...], classes: int) -> keras.Model:
    """The CNN of pfl-research's CIFAR-10 benchmark (``simple_cnn``), with its dropout."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(classes),
        ]
    )


def resnet18(shape: tuple[int, ...], classes: int) -> keras.Model:
    """ResNet-18 (He et al. 2015) for small images, GroupNorm of 8 groups for BatchNorm."""
    import keras

    layers = keras.layers

    def convolved(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        padding = "same" if size > 1 else "valid"
        x = layers.Conv2D(filters, size, stride, padding, use_bias=False)(x)
        return layers.GroupNormalization(8, epsilon=1e-5)(x)

    given = keras.Input(shape)
    x = layers.ReLU()(convolved(given, 64, 3))
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(convolved(x, filters, 3, stride))
            y = convolved(y, filters, 3)
            if stride != 1 or x.shape[-1] != filters:
                x = convolved(x, filters, 1, stride)
            x = layers.ReLU()(x + y)
    return keras.Model(given, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))
