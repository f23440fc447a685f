"""tools/predict.py: the images it takes."""

import runpy
from pathlib import Path

import pytest

from mmvitlin.errors import ConfigError

TOOL = runpy.run_path(str(Path(__file__).parents[2] / 'tools' / 'predict.py'))


def test_names_that_several_images_have_are_found():
    images = ['one/0.png', 'two/0.png', 'two/1.png']
    assert TOOL['find_shared_names'](images) == ['0.png']


def test_folders_are_searched_and_missing_or_empty_ones_refused(tmp_path):
    (tmp_path / 'inner').mkdir()
    image = tmp_path / 'inner' / '0.png'
    image.touch()
    assert TOOL['find_images']([str(tmp_path), str(image)]) == [str(image)] * 2
    with pytest.raises(ConfigError, match='there is no image or folder'):
        TOOL['find_images']([str(tmp_path / 'missing')])
    image.unlink()
    with pytest.raises(ConfigError, match='there is no image below'):
        TOOL['find_images']([str(tmp_path)])
