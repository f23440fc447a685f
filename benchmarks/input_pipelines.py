"""Input pipelines: images per second on one core, with RandAugment and random erasing.

The images are noise with the spectrum of photographs, 500 x 375 and, one in eight, 2000 x 1500, as
JPEG files of about the size that ImageNet's have.
"""

import atexit
import shutil
import tarfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import cv2
import numpy as np
import timm.data
from harness import ROOT, Case, Step, Table
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from mmvitlin.datasets import ImageNetTar

IMAGES = 64
SIZES = {'500 x 375': [(375, 500)], 'mixed sizes': [(375, 500)] * 7 + [(1500, 2000)]}
CLASSES = dict(classes=('noise',))
TIMM, HOST = "timm's", "mmpretrain's"


def photograph(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw colour noise whose amplitudes fall with the frequency, (H, W, 3) uint8."""
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(9):
        step = 2**octave
        grid = rng.standard_normal((height // step + 2, width // step + 2, 3)).astype(np.float32)
        image += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * step**0.5
    return (image / image.std() * 50 + 120).clip(0, 255).astype(np.uint8)


@cache
def write_images(sizes: str) -> Path:
    """Write a folder of a class, and a tar file of it, for as long as this process runs."""
    root, rng = Path(mkdtemp()), np.random.default_rng(0)
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / 'train/noise').mkdir(parents=True)
    for index in range(IMAGES):
        height, width = SIZES[sizes][index % len(SIZES[sizes])]
        path = root / f'train/noise/{index:03}.jpg'
        Image.fromarray(photograph(height, width, rng)).save(path, quality=90)
    with tarfile.open(root / 'train.tar', 'w') as tar:
        tar.add(root / 'train', 'train')
    return root


def timm_step(sizes: str) -> Step:
    """Create timm's pipeline, Pillow's decoder and `create_transform`, over the folder."""
    transform = timm.data.create_transform(
        224,
        is_training=True,
        # mmax9: at 10, timm posterises to 0 bits, which Pillow 13 refuses.
        auto_augment='rand-m9-mmax9-mstd0.5-inc1',
        re_prob=0.25,
        interpolation='bicubic',
    )
    paths = sorted((write_images(sizes) / 'train/noise').iterdir())

    def step() -> None:
        for path in paths:
            transform(Image.open(path).convert('RGB'))

    return step


def pipeline(dataset: str) -> Compose:
    """Build the training pipeline of a config in configs/_base_/datasets."""
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{dataset}.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Compose(cfg.train_pipeline)


def our_step(sizes: str, dataset: str, from_tar: bool) -> Step:
    """Create the pipeline of a config, over the folder or the tar file."""
    root, transform = write_images(sizes), pipeline(dataset)
    if from_tar:
        samples = ImageNetTar(str(root), metainfo=CLASSES, index_dir=str(root))
        infos = [samples.get_data_info(index) for index in range(len(samples))]
    else:
        paths = sorted((root / 'train/noise').iterdir())
        infos = [dict(img_path=str(path), gt_label=0) for path in paths]

    def step() -> None:
        for info in infos:
            transform(dict(info))

    return step


def input_tables(device: str) -> list[Table]:
    """List the pipelines for each mixture of sizes."""
    fast, plain = 'imagenet_224_load-and-crop', 'imagenet_224'
    steps: dict[str, Callable[..., Step]] = {
        'LoadAndCrop': partial(our_step, dataset=fast, from_tar=False),
        'LoadAndCrop, tar file': partial(our_step, dataset=fast, from_tar=True),
        HOST: partial(our_step, dataset=plain, from_tar=False),
        TIMM: timm_step,
    }
    return [
        Table(
            f'{IMAGES} images, {sizes}',
            [
                Case(name, partial(step, sizes), peer=None if name == TIMM else TIMM)
                for name, step in steps.items()
            ],
            images=IMAGES,
            threads=1,
            memory=False,
        )
        for sizes in SIZES
    ]
