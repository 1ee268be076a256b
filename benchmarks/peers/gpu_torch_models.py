"""The models of the GPU benchmark in PyTorch: layer for layer those of ``gpu_models.py``."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_work import CLASSES, PARAMETERS, Model


def build(torch: Any, name: Model) -> Any:
    """Return a model that takes images as uint8 [B, height, width, channels].

    Args:
        torch: the library.
        name: which.
    """
    made = {"cnn": cnn, "resnet18": resnet18, "cifar-cnn": cifar_cnn}[name]
    model = scaled(torch, made(torch.nn))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    return model


def scaled(torch: Any, body: Any) -> Any:
    """Return a model that scales images and puts their channels first, as PyTorch has them."""

    class Scaled(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, images: Any) -> Any:
            return self.body(images.permute(0, 3, 1, 2).float() / 255)

    return Scaled()


def cnn(nn: Any) -> Any:
    """The CNN of all benchmarks."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1_600, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    )


def cifar_cnn(nn: Any) -> Any:
    """The CNN of pfl-research's CIFAR-10 benchmark."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(12_544, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, CLASSES),
    )


def resnet18(nn: Any) -> Any:
    """ResNet-18 for small images with GroupNorm."""

    def convolved(channels: int, filters: int, size: int, stride: int = 1) -> Any:
        padding = size // 2
        layer = nn.Conv2d(channels, filters, size, stride, padding, bias=False)
        return nn.Sequential(layer, nn.GroupNorm(8, filters))

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int, filters: int, stride: int) -> None:
            super().__init__()
            self.one = convolved(channels, filters, 3, stride)
            self.two = convolved(filters, filters, 3)
            same = stride == 1 and channels == filters
            self.beside = nn.Identity() if same else convolved(channels, filters, 1, stride)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            y = self.two(self.relu(self.one(x)))
            return self.relu(self.beside(x) + y)

    blocks, channels = [], 64
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            blocks.append(Block(channels, filters, 2 if stage and not block else 1))
            channels = filters
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)]
    return nn.Sequential(convolved(3, 64, 3), nn.ReLU(), *blocks, *head)
