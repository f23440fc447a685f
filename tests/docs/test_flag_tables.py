"""The tables of `docs/coming-from` name settings that exist."""

import inspect
import re

import pytest
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from mmpretrain.models import VisionTransformer
from mmpretrain.registry import BATCH_AUGMENTS
from tiny_run import ROOT

from mmvitlin import registry

PAGES = sorted(ROOT.glob('docs/coming-from/*.md'))
CONFIG = re.compile(r'<!-- config (\S+) -->')
ROW = re.compile(r'^\| (.+?) \| (.+?) \| (.*?) ?\|$', re.MULTILINE)
HEADERS = ('flag', 'in timm', 'you have')
# The flags that the issue of each repository's users names first.
ASKED = {
    'l2vit': ('--layer_scale_init_value', '--update_freq', '--model_ema', '--finetune'),
    'lion': ('--mask_type', '--order', '--format', '--chunk_size', '--pos_emb', '--cls_tok'),
    'vit-llama': ('--llama_path', '--data_type tar'),
    'token-expansion': ('--expansion-step', '--keep-rate', '--token-label-data', '--final_bs'),
}


def rows(page: str) -> list[tuple[str, str]]:
    """Rows of the tables of settings: (flags, setting)."""
    found, inside = [], False
    for flag, here, _ in ROW.findall(page):
        if flag in HEADERS or '---' in flag:
            inside = flag in HEADERS or inside
        elif inside:
            found.append((flag, here))
    return found


def find_class(name: str) -> type | None:
    """The class of a name in our registries, or in those of the host that the pages speak of."""
    if name == 'VisionTransformer':
        return VisionTransformer
    ours = [r for r in vars(registry).values() if isinstance(r, registry.ChildRegistry)]
    found = [r.get(name) for r in (*ours, OPTIMIZERS, OPTIM_WRAPPERS, BATCH_AUGMENTS)]
    return next((cls for cls in found if cls is not None), None)


def takes(cls: type, argument: str) -> bool:
    """Return whether a class, or one of its bases, has an argument of this name."""
    return any(
        argument in inspect.signature(base.__init__).parameters
        for base in cls.__mro__
        if '__init__' in vars(base)
    )


def is_in_config(cfg: Config, key: str) -> bool:
    node = cfg
    for part in key.split('.'):
        if isinstance(node, (list, tuple)):
            if int(part) >= len(node):
                return False
            node = node[int(part)]
        elif part in node:
            node = node[part]
        else:
            return False
    return True


def exists(here: str, cfg: Config) -> bool:
    """Return whether a setting, option, tool, class or function exists."""
    if here.startswith('--'):
        sources = ('tools/train.py', 'mmvitlin/engine/launcher.py')
        return any(f"'{here}'" in (ROOT / source).read_text() for source in sources)
    if here.startswith(('tools/', 'benchmarks/')):
        return (ROOT / here.split()[0]).is_file()
    prefix, _, rest = here.partition('.')
    if prefix == 'mmvitlin' and rest[0].islower():  # mmvitlin.apis.get_model
        module, _, name = here.rpartition('.')
        return hasattr(__import__(module, fromlist=[name]), name)
    name, _, argument = (rest if prefix == 'mmvitlin' else here).partition('.')
    if name[0].isupper():
        cls = find_class(name)
        return cls is not None and (not argument or takes(cls, argument))
    return is_in_config(cfg, here)


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.stem)
def test_every_setting_of_a_table_exists(path):
    page = path.read_text()
    cfg = Config.fromfile(ROOT / CONFIG.search(page)[1])
    table = rows(page)
    assert len(table) > 5
    wrong = [
        f'{flag}: {here}'
        for flag, here in table
        if here != 'none' and not exists(here.strip('`'), cfg)
    ]
    assert wrong == []


@pytest.mark.parametrize('stem, flags', ASKED.items())
def test_the_flags_that_users_ask_for_are_there(stem, flags):
    table = ' '.join(flag for flag, _ in rows((ROOT / f'docs/coming-from/{stem}.md').read_text()))
    assert [flag for flag in flags if f'`{flag}`' not in table] == []


def test_a_wrong_setting_is_found():
    cfg = Config.fromfile(ROOT / 'configs/toe/deit-small_4xb256-300e_in1k.py')
    wrong = ('model.backbone.archh', 'mmvitlin.LION.formatt', '--resum', 'tools/trainn.py', 'Foo.a')
    assert not any(exists(here, cfg) for here in wrong)
