"""No file runs code: every way that was thought of, at every door of the package."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tiny_run import ROOT

PROGRAM = Path(__file__).with_name('malicious_files.py')
MOST_CRASHES = 20  # after which a campaign ends
# Calls that read files of weights, labels or indices.
LOADERS = {
    *('load', 'loads', 'Unpickler', 'safe_open', 'load_file', 'load_archive', 'read_pickle'),
    *('load_checkpoint', 'load_from_file', 'load_from_bytes', 'load_from_url', 'load_whole'),
    *('check_tensor', 'load_state_dict_from_url', 'fromstring', 'load_from_safe', '_load_from_zoo'),
    *('_load_open', '_load_safetensors', '_map', '_open_safetensors', 'read_label_map'),
    *('read_llama_blocks', 'read_pretrained', 'check_fit', 'convert_checkpoint'),
    *('decode_jpeg', 'decode_jpeg_header'),
}
# folder/file:function of the package and tools that calls one of them -> the door of its files.
# A new one belongs here, and its door into `malicious_files.doors`.
CALLERS = {
    'analysis_tools/visualize_token_expansion:main': 'whole checkpoint',
    'apis/by_name:_load_weights_to_model': 'dense inferencer',
    'apis/by_name:get_inferencer': 'get_model',
    'apis/model_index:read_index': 'our own YAML',
    'apis/new_config:checkpoint_prefix': 'whole checkpoint',
    'backbones/base:load_pretrained': 'init_cfg',
    'backbones/frozen_llama:prepare': 'LLaMA',
    'checkpoints/archive:check_tensor': 'LLaMA',
    'checkpoints/archive:load_archive': 'file',
    'checkpoints/convert:convert_checkpoint': 'converter',
    'checkpoints/inert_pickle:read_pickle': 'file',
    'checkpoints/llama:_copy': 'LLaMA',
    'checkpoints/llama:_map': 'LLaMA',
    'checkpoints/llama:_names': 'LLaMA',
    'checkpoints/llama:_open_safetensors': 'LLaMA safetensors',
    'checkpoints/llama:_read_index': 'JSON',
    'checkpoints/llama:_read_sums': 'LLaMA safetensors',
    'checkpoints/llama:_tensor': 'LLaMA',
    'checkpoints/pretrained:read_pretrained': 'init_cfg',
    'checkpoints/safe_load:_load_from_zoo': 'zoo',
    'checkpoints/safe_load:_load_open': 'file',
    'checkpoints/safe_load:_load_safetensors': 'safetensors',
    'checkpoints/safe_load:check_tensor': 'LLaMA',
    'checkpoints/safe_load:load_checkpoint': 'whole checkpoint',
    'checkpoints/safe_load:load_from_bytes': 'bytes',
    'checkpoints/safe_load:load_from_file': 'file',
    'checkpoints/safe_load:load_from_safe': 'MMEngine in our tools',
    'checkpoints/safe_load:load_from_url': 'URL',
    'checkpoints/state_dicts:load_whole': 'whole checkpoint',
    'datasets/load_and_crop:_decode': 'image, by libjpeg-turbo',
    'datasets/load_and_crop:_load_by_host': 'image, by cv2',
    'datasets/load_and_crop:_upright_shape': 'image, by libjpeg-turbo',
    'datasets/tar_index:_read': 'tar index',
    'engine/launcher:check_resumed': 'whole checkpoint',
    'engine/one_image:build_model': 'whole checkpoint',
    'engine/predictions:build_trained': 'whole checkpoint',
    'export/parts:build_deployed': 'whole checkpoint',
    'engine/run_record:_newest_test': 'JSON',
    'engine/run_record:read_run': 'JSON',
    'evaluation/real_accuracy:__init__': 'JSON',
    'export/formats:_read_torch_export': 'our own program',
    'export/formats:_read_torchscript': 'our own program',
    'own_data/coco:read_coco': 'JSON',
    'own_data/summary:read_sizes': 'image, by Pillow',
    'teachers/frozen_teacher:_load': 'teacher',
    'token_labels/dataset:_read': 'label map',
    'token_labels/files:read_label_map': 'label map',
    'token_labels/writer:check_settings': 'JSON',
    'token_labels/writer:find_work': 'label map',
    'tools/convert_checkpoint:main': 'converter',
    'tools/demo:draw_detections': 'predictions that the demo has just written',
    'tools/demo:draw_digits': 'predictions that the demo has just written',
    'tools/demo:main': 'JSON',
    'tools/generate_token_labels:build_classifier': 'whole checkpoint',
    'tools/predict:classify': 'whole checkpoint',
    'tools/test:test': 'whole checkpoint',
}
NOT_IN_THE_CORPUS = {
    *('JSON', 'our own YAML', 'our own program', 'image, by Pillow'),
    *('image, by cv2', 'image, by libjpeg-turbo'),
    'predictions that the demo has just written',
}


def find_callers():
    """Functions that call a loader, found in the source."""
    found = {}
    for root in ('mmvitlin', 'tools'):
        for file in sorted((ROOT / root).rglob('*.py')):
            for function in ast.walk(ast.parse(file.read_text())):
                if not isinstance(function, ast.FunctionDef):
                    continue
                for node in ast.walk(function):
                    if isinstance(node, ast.Call):
                        name = getattr(node.func, 'attr', getattr(node.func, 'id', None))
                        if name in LOADERS:
                            key = f'{file.parent.name}/{file.stem}:{function.name}'
                            found.setdefault(key, set()).add(name)
    return found


def test_every_function_that_loads_has_a_door():
    unknown = {key: names for key, names in find_callers().items() if key not in CALLERS}
    assert not unknown, f'enter these in CALLERS, and their door in malicious_files: {unknown}'
    assert not CALLERS.keys() - find_callers().keys()


def interpreters():
    """This one, and those that RELIABILITY_PYTHONS names, separated by colons: older torch, no PIE.

    Where one has no torch of its own, PYTHONPATH gives it this environment's.
    """
    return [sys.executable, *filter(None, os.environ.get('RELIABILITY_PYTHONS', '').split(':'))]


@pytest.mark.parametrize('python', interpreters())
def test_no_malicious_file_runs_code_or_crashes(python, tmp_path, capsys):
    """Not even where the environment turns torch's own protection off."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    environment.setdefault('PYTHONPATH', str(ROOT))
    log, crashes = tmp_path / 'log', []
    for _ in range(MOST_CRASHES):
        ended = subprocess.run(
            [python, PROGRAM, tmp_path],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if ended.returncode == 0:
            break
        assert log.exists(), ended.stderr
        crashes.append(f'{log.read_text().splitlines()[-1]}: {ended.returncode}')
    lines = [line.split('\t') for line in log.read_text().splitlines()]
    outcomes = {(door, way): said for door, way, said in lines}
    doors, ways = ({key[index] for key in outcomes} for index in (0, 1))
    said = Counter(outcomes.values())
    with capsys.disabled():
        print(
            f'\nmalicious files: {len(ways)} ways x {len(doors)} doors = {len(outcomes)}, '
            f'executed {said["EXECUTED"]}, crashed {len(crashes)}, refused {said["refused"]}, '
            f'loaded as data {said["loaded as data"]} ({python}, {", ".join(sorted(doors))})'
        )
    assert not crashes
    assert len(outcomes) == len(ways) * len(doors) and len(ways) >= 30
    other = {k: v for k, v in outcomes.items() if v not in ('refused', 'loaded as data')}
    assert not other
    if python == sys.executable:
        assert {*CALLERS.values()} - NOT_IN_THE_CORPUS <= doors
