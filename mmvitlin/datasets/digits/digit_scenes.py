"""Detection and segmentation without a download: scenes of real handwritten digits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from mmvitlin.datasets.digits.digits import Digits
from mmvitlin.datasets.digits.scene_cache import cached_scene
from mmvitlin.datasets.digits.scene_painting import DIGIT_SIZE, Scene, paint_scene
from mmvitlin.registry import DATASETS, register

SPLITS = ('train', 'val')  # a split's place here goes into the seed of its scenes
DIGITS = tuple('0123456789')
COLOURS = [
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
]
METAINFO = {
    'detection': dict(classes=DIGITS, palette=COLOURS),
    'segmentation': dict(classes=('background', *DIGITS), palette=[(0, 0, 0), *COLOURS]),
}


@register(DATASETS)
class DigitScenes(BaseDataset):
    """Real handwritten digits at random size, place and contrast on textured canvases.

    A scene of the split 'train' shows scans of `Digits('train')` only, one of 'val' scans of
    `Digits('val')` only, and it is the same to the byte on every machine.

    A sample holds `img`, (S, S, 3) uint8 in BGR as hosts read images, and what the task asks for:

    - 'detection', ten classes: `instances` as mmdetection's LoadAnnotations reads them, with boxes
      around the visible ink and masks of it in run lengths. With 'instances' in PackDetInputs'
      `meta_keys`, CocoMetric needs no annotation file.
    - 'segmentation', the background and ten classes: `gt_seg_map`, (S, S) uint8, for IoUMetric.

    No image is left to load, so a pipeline may start with what follows LoadImageFromFile, and for
    segmentation with what follows LoadAnnotations as well. With a `cache_dir`, LoadImageFromFile
    reads the same image from there; pipelines that the hosts' inferencers are to run start with it.

    Args:
        split: 'train' or 'val'.
        task: 'detection' or 'segmentation'; the same scenes either way.
        num_scenes: how many scenes. Fewer are the first of more.
        image_size: the side S of a scene in pixels.
        seed: another seed, other scenes.
        cache_dir: a folder to keep the scenes in as PNG files, shared by any number of processes;
            damaged files are made anew. None paints a scene, in some two milliseconds, whenever it
            is asked for. The hosts' visualisation hooks need the files, as they read `img_path`.
        pipeline: transforms, as for any other dataset.
        test_mode, lazy_init: as in mmengine.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: another `split` or `task`, no scenes, or an `image_size` below the digits'.
        OSError: `cache_dir` cannot be written.
    """

    def __init__(
        self,
        split: str,
        task: str,
        num_scenes: int,
        image_size: int = 128,
        seed: int = 0,
        cache_dir: str | None = None,
        pipeline: Sequence[dict] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        if split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
        if task not in METAINFO:
            raise ValueError(f'task must be one of {tuple(METAINFO)}, got {task!r}')
        if num_scenes < 1:
            raise ValueError(f'num_scenes must be at least 1, got {num_scenes}')
        if image_size < DIGIT_SIZE[1]:
            raise ValueError(
                f'image_size must be at least {DIGIT_SIZE[1]}, the size of the largest digit, '
                f'got {image_size}'
            )
        self.split = split
        self.task = task
        self.num_scenes = num_scenes
        self.image_size = image_size
        self.seed = seed
        self.folder = Path(cache_dir or '', f'{split}_{image_size}px_seed{seed}')
        self.is_cached = cache_dir is not None
        super().__init__(
            metainfo=METAINFO[task],
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Read the digits; list the scenes, which are painted when asked for."""
        digits = list(Digits(self.split))
        self._scans = np.stack([digit['img'][..., 0] for digit in digits])
        self._labels = np.array([digit['gt_label'] for digit in digits])
        shape = (self.image_size, self.image_size)
        return [
            dict(
                img_id=index,
                img_path=str(self.folder / f'{index:06d}.png'),
                img_shape=shape,
                ori_shape=shape,
                height=self.image_size,
                width=self.image_size,
            )
            for index in range(self.num_scenes)
        ]

    def get_data_info(self, idx: int) -> dict:
        """Scene `idx`, as the pipeline gets it."""
        info = super().get_data_info(idx)
        scene = self._scene(info)
        info.update(img=np.ascontiguousarray(scene.image[..., ::-1]))
        if self.task == 'detection':
            info.update(instances=instances_of(scene))
        else:
            info.update(gt_seg_map=semantic_map_of(scene))
            info.update(seg_fields=['gt_seg_map'], reduce_zero_label=False)
        return info

    def _scene(self, info: dict) -> Scene:
        def paint() -> Scene:
            seed = (SPLITS.index(self.split), self.seed, info['img_id'])
            return paint_scene(self._scans, self._labels, self.image_size, seed)

        return cached_scene(Path(info['img_path']), paint) if self.is_cached else paint()


def instances_of(scene: Scene) -> list[dict]:
    """The digits of a scene that can be seen, in mmdetection's form."""
    instances = []
    for value in filter(None, np.unique(scene.instances).tolist()):
        mask = scene.instances == value
        columns, rows = (np.flatnonzero(mask.any(axis)).tolist() for axis in (0, 1))
        instances.append(
            dict(
                bbox=[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
                bbox_label=(value - 1) % 10,
                mask=run_lengths(mask),
                ignore_flag=0,
            )
        )
    return instances


def semantic_map_of(scene: Scene) -> np.ndarray:
    """The class of each pixel: 0 for the background, 1 + label on digits; (S, S) uint8."""
    return np.where(scene.instances > 0, (scene.instances - 1) % 10 + 1, 0).astype(np.uint8)


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed code of a mask (H, W): lengths of runs down the columns, off first."""
    pixels = np.concatenate([[False], mask.ravel(order='F')])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(changes, prepend=0, append=mask.size)
    return dict(size=list(mask.shape), counts=counts.tolist())
