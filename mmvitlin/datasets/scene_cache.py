"""Scenes as PNG files: written once, whole, by whichever process comes first; checked when read."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from mmvitlin.datasets.scene_painting import PAINTING, Scene

DIGEST = 'mmvitlin-digest'  # the text chunk of an image that vouches for the scene


def cached_scene(path: Path, paint: Callable[[], Scene]) -> Scene:
    """The scene of the files at `path`; what is not there, damaged or outdated is painted anew.

    The picture lies in `path`, its instances in a file beside it. Any number of processes may share
    the folder: a file appears under its name when it is whole.

    Raises:
        OSError: the folder cannot be written.
    """
    scene = _read(path)
    if scene is None:
        scene = paint()
        _write(path, scene)
    return scene


def instances_path(path: Path) -> Path:
    """Where the instances of the scene at `path` lie."""
    return path.with_name(f'{path.stem}_instances.png')


def _read(path: Path) -> Scene | None:
    try:
        with Image.open(path) as image, Image.open(instances_path(path)) as instances:
            scene = Scene(np.array(image), np.array(instances))
            return scene if image.info.get(DIGEST) == _digest(path, scene) else None
    except (OSError, SyntaxError, ValueError):  # what Pillow raises on files that are no images
        return None


def _write(path: Path, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = PngImagePlugin.PngInfo()
    digest.add_text(DIGEST, _digest(path, scene))
    _save(Image.fromarray(scene.instances), instances_path(path))
    _save(Image.fromarray(scene.image), path, pnginfo=digest)


def _save(image: Image.Image, path: Path, **options) -> None:
    """Write `image` beside its name and rename it, so that no reader meets half of it."""
    handle, partial = tempfile.mkstemp(prefix=path.stem, suffix='.partial', dir=path.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            image.save(file, format='png', **options)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _digest(path: Path, scene: Scene) -> str:
    """Of the bytes, of the place they belong to, and of the painting that made them."""
    place = f'{PAINTING}/{path.parent.name}/{path.name}'.encode()
    return hashlib.sha256(place + scene.image.tobytes() + scene.instances.tobytes()).hexdigest()
