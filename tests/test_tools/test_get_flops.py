"""tools/analysis_tools/get_flops.py counts whole models of the three hosts, at any shape."""

import re

import pytest
import tiny_models
from tiny_run import DEMO

TOOL = 'analysis_tools/get_flops.py'


@pytest.fixture
def config(tmp_path):
    """Write the config of a host's tiny model."""

    def write(scope):
        model = tiny_models.MODELS_OF[scope]().to_dict()
        (tmp_path / 'config.py').write_text(f'default_scope = {scope!r}\nmodel = {model!r}\n')
        return tmp_path / 'config.py'

    return write


def printed(out):
    """(FLOPs in G, parameters in M) of what was printed."""
    return [
        float(re.search(rf'^{word} ([\d.]+)', out, re.M)[1]) for word in ('FLOPs', 'parameters')
    ]


@pytest.mark.parametrize('scope', tiny_models.MODELS_OF)
def test_the_whole_model_of_every_host_is_counted(scope, config, run_tool, capsys):
    run_tool(TOOL, config(scope), '--shape', 70, 100, '--depth', 1)
    out = capsys.readouterr().out
    counted = set(re.findall(r'^\|  (\w+).*[\d.]+[KMG]? +\|$', out, re.M))
    model = tiny_models.build(scope)
    assert counted == {name for name, p in model.named_children() if [*p.parameters()]}
    assert 'input 70 x 100\n' in out
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert printed(out)[1] == pytest.approx(millions, rel=1e-4)


def test_shape_and_cfg_options_are_live(run_tool, capsys):
    flops = []
    for arguments in (
        ['--shape', 64, 64],
        ['--shape', 128, 64],
        ['--shape', 64, 64, '--cfg-options', 'model.backbone.mlp_ratio=8'],
    ):
        run_tool(TOOL, DEMO, *arguments)
        flops.append(printed(capsys.readouterr().out)[0])
    assert flops[1] == pytest.approx(2 * flops[0], rel=0.3)
    assert flops[2] > flops[0]
