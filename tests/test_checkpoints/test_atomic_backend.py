"""A write that is cut off never leaves half a file under the final name."""

import os
import time
from pathlib import Path

import pytest
from fresh_python import start_python
from mmengine.fileio import get_file_backend

from mmvitlin.checkpoints.atomic_backend import BACKEND
from mmvitlin.checkpoints.atomic_write import atomic_write

pytestmark = pytest.mark.slow

WRITER = """
from mmvitlin.checkpoints.atomic_backend import AtomicLocalBackend
generation = 0
while True:
    generation = (generation + 1) % 256
    AtomicLocalBackend().put(bytes([generation]) * 20_000_000, {file!r})
"""


@pytest.fixture
def backend():
    return get_file_backend(backend_args=dict(backend=BACKEND))


def test_writes_bytes_and_text_into_new_folders(backend, tmp_path):
    backend.put(b'bytes', tmp_path / 'a/b/file')
    backend.put_text('t\u00e9xt', str(tmp_path / 'c/file'))
    assert (tmp_path / 'a/b/file').read_bytes() == b'bytes'
    assert (tmp_path / 'c/file').read_text(encoding='utf-8') == 't\u00e9xt'
    assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == ['file', 'file']


def test_a_failing_write_leaves_the_old_file(backend, tmp_path, monkeypatch):
    backend.put(b'old', tmp_path / 'file')

    def full_disk(descriptor):
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'new', tmp_path / 'file')
    assert [path.name for path in tmp_path.iterdir()] == ['file']
    assert (tmp_path / 'file').read_bytes() == b'old'


def test_a_kill_leaves_a_whole_file(tmp_path):
    file = tmp_path / 'file'
    for delay in (0.0, 0.005, 0.013, 0.029):
        writer = start_python(WRITER.format(file=str(file)))
        while not file.exists() or not any(tmp_path.glob('file.*.partial')):
            assert writer.process.is_alive()
            time.sleep(0.001)
        time.sleep(delay)
        writer.kill()
        content = file.read_bytes()
        assert len(content) == 20_000_000
        assert len(set(content)) == 1
    with atomic_write(file) as partial:  # removes what the killed writers left
        partial.write_bytes(b'new')
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_folder_is_listed_once_however_many_files_are_written(tmp_path, monkeypatch):
    listed = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, 'iterdir', lambda path: listed.append(path) or iterdir(path))
    for name in 'abc':
        with atomic_write(tmp_path / name) as partial:
            partial.touch()
    assert listed == [tmp_path]


def test_a_path_read_under_an_ascii_locale_is_written_as_its_bytes(backend, tmp_path):
    backend.put_text('/d\udcc3\udca9', tmp_path / 'file')
    assert (tmp_path / 'file').read_text(encoding='utf-8') == '/d\u00e9'
