"""Scenes as PNG files, which are written atomically and checked when they are read."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.datasets.digits.scene_painting import PAINTING, Scene

DIGEST = 'mmvitlin-digest'  # the text chunk of an image with the checksum of the scene


def cached_scene(path: Path, paint: Callable[[], Scene]) -> Scene:
    """Read a scene from files; paint and write it if they are missing, damaged or outdated.

    Any number of processes may share the folder: a file gets its name when it is complete.

    Args:
        path: the image; the instances are in a second file in the same folder.
        paint: paints the scene.

    Raises:
        OSError: the folder cannot be written.
    """
    scene = _read(path)
    if scene is None:
        scene = paint()
        _write(path, scene)
    return scene


def instances_path(path: Path) -> Path:
    """Return the path of the instances of the scene at `path`."""
    return path.with_name(f'{path.stem}_instances.png')


def _read(path: Path) -> Scene | None:
    try:
        with Image.open(path) as image, Image.open(instances_path(path)) as instances:
            scene = Scene(np.array(image), np.array(instances))
            return scene if image.info.get(DIGEST) == _digest(path, scene) else None
    except (OSError, SyntaxError, ValueError):  # Pillow's errors for files that are not images
        return None


def _write(path: Path, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = PngImagePlugin.PngInfo()
    digest.add_text(DIGEST, _digest(path, scene))
    with atomic_write(instances_path(path), sync=False) as partial:
        Image.fromarray(scene.instances).save(partial, format='png')
    with atomic_write(path, sync=False) as partial:
        Image.fromarray(scene.image).save(partial, format='png', pnginfo=digest)


def _digest(path: Path, scene: Scene) -> str:
    """Return the checksum of a scene, its path and the version of the painting."""
    place = f'{PAINTING}/{path.parent.name}/{path.name}'.encode()
    return hashlib.sha256(place + scene.image.tobytes() + scene.instances.tobytes()).hexdigest()
