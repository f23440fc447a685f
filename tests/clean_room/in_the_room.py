"""What `clean_room.py` runs in the environment that it made: in_the_room.py CHECKOUT.

Lists, builds and runs models by name in the three hosts, then trains, tests and counts by mim.
"""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import mmpretrain

import mmvitlin
from mmvitlin import apis
from mmvitlin.apis.model_index import index_folder, read_index

CHECKOUT = Path(sys.argv[1])
IMAGE = 'digit.png'
DEMO = 'l2vit-micro_1xb64_digits'
SYSTEMS = ('l2vit', 'lion', 'vit-llama', 'lvvit', 'toe', 'efftrain')
FULL_SIZE = (
    'l2vit-tiny_8xb128-accum4-300e_in1k',
    'lion-s-natural-tiny_4xb256-300e_in1k',
    'deit-tiny_toe_4xb256-300e_in1k',
    'deit-small_distilled_4xb256-300e_in1k',
    'lvvit-tiny_8xb128-300e_in1k',
)
LEAST_TOP1 = 15.0  # after the demo's first epoch, of chance's 10


def say(text: str) -> None:
    print(f'  {text}', flush=True)


def mim(*arguments: str) -> str:
    """Run mim; return its output."""
    command = [str(Path(sys.executable).parent / 'mim'), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{" ".join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}')
    return done.stdout + done.stderr


def check_place() -> None:
    """Nothing comes from the checkout."""
    room = Path(sys.prefix)
    for path in (mmvitlin.__file__, mmpretrain.__file__, index_folder()):
        assert Path(path).is_relative_to(room), path
    assert not [path for path in sys.path if Path(path).resolve() == CHECKOUT]
    say(f'mmvitlin {mmvitlin.__version__} is in {Path(mmvitlin.__file__).parent}')


def check_lists() -> None:
    """The index is the checkout's, and mmpretrain lists the classifiers in it."""
    configs = [path for path in (CHECKOUT / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert sorted(read_index()) == sorted(path.stem for path in configs)
    for system in SYSTEMS:
        pattern = f'*{system}*'
        listed = mmpretrain.list_models(pattern)
        assert listed == apis.list_models(pattern, task='Image Classification') != []
        say(f'mmpretrain.list_models({pattern!r}): {len(listed)} models')
    say(f'mmvitlin.apis.list_models(): {len(apis.list_models())} models')


def check_models() -> None:
    """Models of the three hosts see an image."""
    classifiers = apis.list_models('*_digits', task='Image Classification')
    for name in (*classifiers, *FULL_SIZE):
        result = mmpretrain.inference_model(name, IMAGE)
        say(f'{name}: {result["pred_class"]} ({result["pred_score"]:.2f}, random weights)')
    for name in apis.list_models('*digit-scenes'):
        inferencer = apis.get_inferencer(name)
        assert inferencer(IMAGE, out_dir=name)['predictions'] is not None
        assert list(Path(name).rglob('*.*')), f'{name} drew nothing'
        say(f'{name}: {type(inferencer).__name__} ran and drew')


def check_mim() -> None:
    """Configs are found, trained, tested and counted by mim."""
    found = mim('search', 'mmvitlin', '--model', 'l2vit')
    assert 'l2vit-tiny' in found
    say(f'mim search mmvitlin --model l2vit: {found.count("config id")} configs')
    train = ('train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1')
    options = ('--gpus', '0', '--work-dir', 'run')
    mim('train', 'mmvitlin', f'{DEMO}.py', *options, '--cfg-options', *train)
    out = mim('test', 'mmvitlin', f'{DEMO}.py', '--checkpoint', 'run/epoch_1.pth', *options)
    top1 = float(out.rpartition('accuracy/top1: ')[2].split()[0])
    assert top1 > LEAST_TOP1, top1
    say(f'mim train, one epoch of the demo, then mim test: {top1:.1f} top-1')
    out = mim('run', 'mmvitlin', 'get_flops', str(read_index()[DEMO].config))
    (line,) = (line for line in out.splitlines() if line.startswith('FLOPs'))
    say(f'mim run mmvitlin get_flops: {line}')
    result = mmpretrain.ImageClassificationInferencer(DEMO, 'run/epoch_1.pth')(IMAGE)[0]
    say(f'the trained demo by name sees a {result["pred_class"]} ({result["pred_score"]:.2f})')


if __name__ == '__main__':
    warnings.simplefilter('ignore')  # of random weights
    for check in (check_place, check_lists, check_models, check_mim):
        began = time.monotonic()
        check()
        say(f'-- {check.__doc__} {time.monotonic() - began:.0f} s')
