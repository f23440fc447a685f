"""The tool draws the attention of every backbone, and prints where a patch reads most."""

import re

import numpy as np
import pytest
from PIL import Image
from tiny_run import ROOT

pytestmark = pytest.mark.slow

TOOL = 'analysis_tools/visualize_attention.py'


@pytest.fixture
def digit(tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'digit.png')
    return tmp_path / 'digit.png'


@pytest.mark.parametrize(
    'config',
    ['l2vit-micro', 'lion-s-natural-micro', 'lvvit-micro', 'vit-llama-micro', 'vit-micro_toe'],
)
def test_every_backbone_is_drawn(config, digit, run_tool, tmp_path, capsys):
    (path,) = (ROOT / 'configs/quickstart').glob(f'{config}_1xb64_digits.py')
    out = tmp_path / 'attention.png'
    run_tool(TOOL, path, '--image', digit, '--layers', 0, -1, '--patches', '0,1', '--out', out)
    said = re.search(
        r'patch \(0, 1\) reads most from \(\d+, \d+\), (.*)$', capsys.readouterr().out, re.M
    )
    assert 0 < float(said[1]) <= 1
    with Image.open(out) as picture:
        assert len(picture.getcolors(2**20)) > 50


def test_a_layer_or_patch_that_is_not_there_is_one_line(digit, run_tool):
    config = ROOT / 'configs/quickstart/vit-micro_1xb64_digits.py'
    with pytest.raises(SystemExit, match=r'^error: --layers must be from -\d+ to \d+, .* got 99$'):
        run_tool(TOOL, config, '--image', digit, '--layers', 99)
    with pytest.raises(SystemExit, match=r'^error: --patches 0,99 is outside the grid: .*$'):
        run_tool(TOOL, config, '--image', digit, '--patches', '0,99')
