"""From own data to a trained, tested and reported model, by the commands that are printed."""

import re
import shlex
from pathlib import Path

import own_data
import pytest
from PIL import Image

from mmvitlin.engine.run_record import read_run

pytestmark = pytest.mark.slow

TINY = ('--cfg-options', 'log_level=WARNING', 'train_dataloader.num_workers=0')
TINY += ('train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0')
TINY += ('val_dataloader.persistent_workers=False',)
TINY_TEST = ('--cfg-options', 'log_level=WARNING', 'test_dataloader.num_workers=0')
TINY_TEST += ('test_dataloader.persistent_workers=False',)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_printed(run_tool, capsys):
    """Write a config; then run the commands that were printed, as a program would get them."""

    def run(*arguments, names=('train', 'test', 'predict', 'report')):
        run_tool('new_config.py', *arguments)
        out = capsys.readouterr().out
        commands = dict(re.findall(r'^(\w+):\n  python (.*)$', out, re.M))
        commands = {name: commands[name] for name in names}
        for name, command in commands.items():
            tool, *rest = shlex.split(command)
            tool = re.search(r'tools/(.*)$', tool)[1]
            extra = {'train': TINY, 'test': TINY_TEST}.get(name, ())
            run_tool(tool, *rest, *extra)
        return out, capsys.readouterr().out

    return run


def pictures_of(name):
    return list(Path('work_dirs', name, 'pictures').rglob('*.png'))


def page_of(name):
    page = Path('work_dirs', name, 'report.html').read_text()
    assert 'src="data:image/png;base64,' in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # one file, no network
    return page


def test_class_folders(in_folder, run_printed):
    data = own_data.write_class_folders(in_folder / 'my digits', count=40)
    (data / 'digit1' / 'broken.png').write_text('no image')
    out, ran = run_printed(
        *('cls', data, '--length', 1, '--no-flip', '--out', 'own.py'),
        names=('train', 'test', 'predict', 'report', 'export'),
    )
    assert len(list(Path('work_dirs/own').glob('*.onnx'))) == 1
    assert 'broken.png' in out
    assert '30 images to train on, 10 to validate on' in out
    assert len(pictures_of('own')) == 10
    (picture,) = Path('predictions').iterdir()
    assert min(Image.open(picture).size) == 480  # whatever the image's size, the text is legible
    assert re.search(r'my digits/digit\d/[\d_]+.png: digit\d 0\.\d+', ran)
    page = page_of('own')
    tested = read_run(Path('work_dirs/own')).test['accuracy/top1']
    assert f'test images are right ({tested:.2f}%)' in page
    assert all(f'>{title}<' in page for title in ('Curves', 'Confusion matrix', 'Worst mistakes'))
    assert '<td>CustomDataset ' in page and '<td>5: digit0, digit1, ' in page
    assert 'RandomFlip' not in Path('own.py').read_text()


def test_a_coco_file_with_masks(in_folder, run_printed):
    data = own_data.write_coco(in_folder / 'data', 12)
    _, ran = run_printed('det', data, '--length', 1)
    assert 'mask-rcnn_l2vit-micro' in Path('own_configs/scenes.py').read_text()
    assert len(pictures_of('scenes')) == 2
    assert re.search(r'images/\d+.png: (none|\d)', ran)
    assert '>Predictions<' in page_of('scenes')


def test_a_coco_file_of_boxes(in_folder, run_tool):
    data = own_data.write_coco(in_folder / 'data', 6, with_masks=False)
    run_tool('new_config.py', 'det', data)
    assert 'retinanet_l2vit-micro' in Path('own_configs/scenes.py').read_text()


def test_masks(in_folder, run_printed):
    images, masks = own_data.write_masks(in_folder / 'data', 12)
    for path in sorted(masks.iterdir())[:4]:  # pixels of no class train, and do not count
        labels = Image.open(path)
        labels.paste(255, (0, 0, 20, 20))
        labels.save(path)
    _, ran = run_printed(
        *('seg', images, '--masks', masks, '--classes', ','.join(own_data.CLASSES)),
        *('--length', 2),
    )
    assert len(pictures_of('images')) == 2
    assert re.search(r'images/\d+.png: .*\d%', ran)
    page = page_of('images')
    assert '>Predictions<' in page
    assert re.search(r'rgb\(0, 255, 0\)[^>]*>0<', page)  # the color of label 1, the digit 0


def test_more_processes_train_by_the_starter_of_several(in_folder, run_tool, capsys):
    data = own_data.write_class_folders(in_folder / 'digits', count=80)
    run_tool('new_config.py', 'cls', data, '--gpus', 2)
    out = capsys.readouterr().out
    assert re.search(r'train:\n  \S*tools/dist_train.sh own_configs/digits.py 2\n', out)


def test_a_terminal_asks_for_what_is_missing(in_folder, run_tool, monkeypatch):
    data = own_data.write_class_folders(in_folder / 'digits', count=40)
    answers = iter(['cat', 'cls', '', str(data), 'vit-micro_1xb64_digits', ''])
    monkeypatch.setattr('builtins.input', lambda question: next(answers))
    monkeypatch.setattr('sys.stdin.isatty', lambda: True, raising=False)
    run_tool('new_config.py')
    assert 'vit-micro_1xb64_digits.py' in Path('own_configs/digits.py').read_text()
    assert next(answers, None) is None


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'are needed'),
        (['seg', 'images'], '--masks goes with seg'),
        (['cls', 'digits', '--classes', 'a,b'], '--classes goes with seg'),
        (['cls', 'digits', '--gpus', '0'], '--gpus must be at least 1'),
    ],
)
def test_an_incomplete_command_is_refused(in_folder, run_tool, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        run_tool('new_config.py', *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_user_errors_are_one_line(in_folder, run_tool):
    data = own_data.write_class_folders(in_folder / 'digits', count=20)
    for arguments, message in [
        (['cls', 'nowhere'], 'there is no folder'),
        (['cls', data, '--model', 'l2vit-huge'], 'the nearest are'),
        (['cls', data, '--checkpoint', 'none.pth'], 'there is no checkpoint'),
        (['cls', data, '--out', 'own.txt'], 'takes the path of a .py file'),
    ]:
        with pytest.raises(SystemExit, match=f'^error: .*{message}'):
            run_tool('new_config.py', *arguments)
    run_tool('new_config.py', 'cls', data)
    with pytest.raises(SystemExit, match='--overwrite replaces it'):
        run_tool('new_config.py', 'cls', data)
    run_tool('new_config.py', 'cls', data, '--overwrite')


def test_a_folder_without_a_training_is_refused(in_folder, run_tool):
    (in_folder / 'empty').mkdir()
    with pytest.raises(SystemExit, match=r'^error: empty has no log of a training'):
        run_tool('analysis_tools/report.py', 'empty')
