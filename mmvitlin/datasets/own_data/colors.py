"""Colors that differ as much as possible, for the classes of own data."""

from itertools import product

import cv2
import numpy as np

LEVELS = np.linspace(0, 1, 9, dtype=np.float32)  # of red, green and blue


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Choose colors one by one, each as far as possible from those before it (in CIELAB).

    The first is black, since label 0 mostly is the background. A longer list begins with the
    shorter one.

    Args:
        count: number of colors, up to 256.

    Returns:
        RGB colors, each channel from 0 to 255.
    """
    rgb = np.array(list(product(LEVELS, repeat=3)), dtype=np.float32)
    lab = cv2.cvtColor(rgb[:, None], cv2.COLOR_RGB2LAB)[:, 0]
    chosen, distances = [0], np.linalg.norm(lab - lab[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return [tuple(color) for color in (rgb[chosen[:count]] * 255).round().astype(int).tolist()]
