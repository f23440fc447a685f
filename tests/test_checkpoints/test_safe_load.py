"""No checkpoint runs code, and errors about checkpoints are one line."""

import argparse
import os
import pickle
import sys

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, Runner
from safetensors.torch import save_file
from tiny_run import tiny_config

from mmvitlin.checkpoints import safe_load
from mmvitlin.checkpoints.inert_pickle import CommandLine
from mmvitlin.checkpoints.safe_load import load_from_file
from mmvitlin.errors import CheckpointError

# Why a pickle outside a zip archive is refused: torch before 2.10 reads none.
REFUSED = 'was not loaded.*could run code' if safe_load.READS_LEGACY else r'.*before torch 1\.6'


class RunsCode:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class LooksUp:
    """A pickle that reaches for any attribute by getattr."""

    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, protocol, zipped):
    content = {'state_dict': {}, 'extra': RunsCode(tmp_path / 'pwned')}
    torch.save(
        content,
        tmp_path / 'evil.pth',
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    reason = 'was not loaded.*could run code' if zipped else REFUSED
    with pytest.raises(CheckpointError, match=rf'evil\.pth {reason}'):
        load_from_file(tmp_path / 'evil.pth')
    assert not (tmp_path / 'pwned').exists()


@pytest.mark.parametrize('protocol', range(2, 6))
def test_a_bare_pickle_is_refused(tmp_path, protocol):
    (tmp_path / 'evil.pth').write_bytes(pickle.dumps(RunsCode(tmp_path / 'pwned'), protocol))
    with pytest.raises(CheckpointError, match=rf'evil\.pth {REFUSED}'):
        load_from_file(tmp_path / 'evil.pth')
    assert not (tmp_path / 'pwned').exists()


@pytest.mark.parametrize(
    ('owner', 'name'),
    [(HistoryBuffer, '__init__'), (torch.Tensor, 'mean'), (HistoryBuffer, 'data')],
)
def test_getattr_reaches_only_the_statistics_of_history_buffers(tmp_path, owner, name):
    torch.save({'extra': LooksUp(owner, name)}, tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='could run code'):
        load_from_file(tmp_path / 'evil.pth')


def test_a_checkpoint_of_a_plain_runner_loads(tmp_path):
    """MMEngine's own CheckpointHook saves HistoryBuffers and numpy data."""
    cfg = tiny_config(tmp_path, train_cfg__max_epochs=1)
    cfg.default_hooks.checkpoint.type = 'CheckpointHook'
    Runner.from_cfg(cfg).train()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    checkpoint = load_from_file(tmp_path / 'epoch_1.pth')
    assert isinstance(checkpoint['message_hub']['log_scalars']['train/loss'], HistoryBuffer)


def test_the_command_line_of_an_originals_checkpoint_is_inert(tmp_path):
    """Their training scripts save an argparse.Namespace under 'args'."""
    arguments = argparse.Namespace(model='l2vit', layers=[1, 2], nested=argparse.Namespace(lr=0.1))
    torch.save({'model': {'weight': torch.ones(2)}, 'args': arguments}, tmp_path / 'original.pth')
    loaded = load_from_file(tmp_path / 'original.pth')
    assert torch.equal(loaded['model']['weight'], torch.ones(2))
    assert type(loaded['args']) is CommandLine
    assert loaded['args'].layers == [1, 2]
    assert loaded['args'].nested.lr == 0.1


def test_a_command_line_cannot_carry_code(tmp_path):
    arguments = argparse.Namespace(hook=RunsCode(tmp_path / 'pwned'))
    torch.save({'args': arguments}, tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='could run code'):
        load_from_file(tmp_path / 'evil.pth')
    assert not (tmp_path / 'pwned').exists()


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / 'whole.pth'
    torch.save({'state_dict': {'weight': torch.randn(1000)}}, path)
    return path


@pytest.mark.parametrize('share', [0, 0.3, 0.9], ids=['empty', 'a third', 'most'])
def test_a_truncated_checkpoint_is_named(whole, share):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r'whole\.pth is not a whole checkpoint'):
        load_from_file(whole)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / 'page.pth').write_text('<html>Not found</html>')
    with pytest.raises(CheckpointError, match=r'page\.pth is not a whole checkpoint'):
        load_from_file(tmp_path / 'page.pth')


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match='there is no checkpoint at'):
        load_from_file(tmp_path / 'none.pth')


@pytest.fixture
def safe_loaders():
    schemes = CheckpointLoader._schemes.copy()
    safe_load.register_safe_loaders()
    yield
    CheckpointLoader._schemes = schemes


def test_everything_that_mmengine_loads_goes_through_the_safe_loader(safe_loaders, tmp_path, whole):
    assert CheckpointLoader.load_checkpoint(str(whole), 'cpu').keys() == {'state_dict'}
    torch.save(RunsCode(tmp_path / 'pwned'), tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'evil.pth'), 'cpu')
    assert not (tmp_path / 'pwned').exists()


def test_urls_are_downloaded_once_and_loaded_safely(safe_loaders, monkeypatch, tmp_path, whole):
    fetched = []

    def download(url, path):
        fetched.append(url)
        os.link(whole, path)

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        checkpoint = CheckpointLoader.load_checkpoint('https://host/model.pth', 'cpu')
        assert checkpoint.keys() == {'state_dict'}
    CheckpointLoader.load_checkpoint('https://other/model.pth', 'cpu')
    assert fetched == ['https://host/model.pth', 'https://other/model.pth']


def test_what_cannot_be_downloaded_is_named(safe_loaders, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=r'http://127\.0\.0\.1:9/a\.pth cannot be downloaded'):
        CheckpointLoader.load_checkpoint('http://127.0.0.1:9/a.pth', 'cpu')


@pytest.mark.parametrize('prefix', ['torchvision://', 'open-mmlab://', 'mmcls://'])
def test_names_of_model_zoos_are_resolved_and_loaded_safely(
    safe_loaders, monkeypatch, whole, prefix
):
    bare = prefix.removesuffix('://')
    zoo = next(zoo for zoo, (prefixes, _) in safe_load.ZOOS.items() if bare in prefixes)
    monkeypatch.setitem(safe_load.ZOOS, zoo, ((bare,), lambda: {'resnet50': str(whole)}))
    assert 'state_dict' in CheckpointLoader.load_checkpoint(f'{prefix}resnet50', 'cpu')
    with pytest.raises(CheckpointError, match='has no resnet5; it has resnet50'):
        CheckpointLoader.load_checkpoint(f'{prefix}resnet5', 'cpu')


def test_no_damage_escapes_as_another_error(whole):
    """Any three bytes of the pickle overwritten: loaded as if nothing had happened, or named."""
    content = whole.read_bytes()
    start, end = content.index(b'\x80\x02'), content.index(b'\x80\x02') + 250
    generator = torch.Generator().manual_seed(0)
    named = 0
    for _ in range(200):
        damaged = bytearray(content)
        for place in torch.randint(start, end, (3,), generator=generator).tolist():
            damaged[place] = torch.randint(256, (), generator=generator).item()
        whole.write_bytes(damaged)
        try:
            load_from_file(whole)
        except CheckpointError as error:
            named += 1
            assert '\n' not in str(error)
    assert named > 100


def test_every_flipped_bit_of_a_tensor_is_named(whole):
    content = bytearray(whole.read_bytes())
    start = content.index(load_from_file(whole)['state_dict']['weight'].numpy().tobytes())
    for place in range(start, start + 4000, 199):
        content[place] ^= 4
        whole.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'data/0 does not match its checksum'):
            load_from_file(whole)
        content[place] ^= 4


def test_an_archive_written_without_checksums_loads(tmp_path):
    path = tmp_path / 'unchecked.pth'
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'weight': torch.arange(5)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_from_file(path)['weight'].tolist() == [0, 1, 2, 3, 4]


def test_torchs_advice_to_load_without_protection_is_not_passed_on(tmp_path):
    torch.save({'extra': RunsCode(tmp_path / 'pwned')}, tmp_path / 'zip.pth')
    legacy = dict(_use_new_zipfile_serialization=False)
    torch.save({'extra': RunsCode(tmp_path / 'pwned')}, tmp_path / 'legacy.pth', **legacy)
    (tmp_path / 'zeros.pth').write_bytes(bytes(4096))
    (tmp_path / 'short.pth').write_bytes(b'\x80\x02')
    for name in ('zip', 'legacy', 'zeros', 'short'):
        with pytest.raises(CheckpointError) as error:
            load_from_file(tmp_path / f'{name}.pth')
        assert 'weights_only' not in str(error.value) and '\n' not in str(error.value)


def test_the_old_format_is_refused_where_torch_cannot_read_it_safely(tmp_path, monkeypatch):
    path = tmp_path / 'old.pth'
    torch.save({'weight': torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    if safe_load.READS_LEGACY:
        assert load_from_file(path)['weight'].tolist() == [1, 1]
    monkeypatch.setattr(safe_load, 'READS_LEGACY', False)
    with pytest.raises(CheckpointError, match=r'before torch 1\.6.*take torch 2\.10 or newer'):
        load_from_file(path)


def test_loading_does_not_add_to_torchs_list_of_safe_names(whole):
    before = torch.serialization.get_safe_globals()
    load_from_file(whole)
    assert torch.serialization.get_safe_globals() == before


def test_a_device_is_expected(whole):
    with pytest.raises(CheckpointError, match=r"device of this machine.*got 'gpu'"):
        load_from_file(whole, 'gpu')


def test_object_stores_are_read_as_bytes_and_loaded_safely(safe_loaders, monkeypatch, tmp_path):
    torch.save(RunsCode(tmp_path / 'pwned'), tmp_path / 'evil.pth')
    monkeypatch.setattr(
        safe_load.fileio, 'get', lambda location: (tmp_path / 'evil.pth').read_bytes()
    )
    with pytest.raises(CheckpointError, match=r's3://bucket/model\.pth was not loaded'):
        CheckpointLoader.load_checkpoint('s3://bucket/model.pth', 'cpu')
    assert not (tmp_path / 'pwned').exists()


def test_safetensors_files_of_ours_are_checked(tmp_path):
    path = tmp_path / 'ours.safetensors'
    weights = {'weight': torch.arange(30.0), 'half': torch.ones(3, dtype=torch.bfloat16)}
    safe_load.save_safetensors(weights, path, {'layers': '3'})
    assert torch.equal(load_from_file(path)['weight'], weights['weight'])
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='does not match its checksums'):
        load_from_file(path)


def test_a_safetensors_file_loads_as_any_other(tmp_path, safe_loaders):
    weights = {'weight': torch.arange(3.0), 'bias': torch.ones(2, dtype=torch.float16)}
    path = tmp_path / 'model.safetensors'
    save_file(weights, path)
    for loaded in (load_from_file(path), CheckpointLoader.load_checkpoint(str(path), 'cpu')):
        assert loaded.keys() == weights.keys()
        assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_a_damaged_safetensors_file_is_named(tmp_path):
    path = tmp_path / 'model.safetensors'
    save_file({'weight': torch.arange(30.0)}, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r'model\.safetensors is not a whole safetensors'):
        load_from_file(path)


def test_a_safetensors_file_without_the_package_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / 'model.safetensors'
    save_file({'weight': torch.arange(3.0)}, path)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        load_from_file(path)
