"""The package as a user gets it: built, installed away from the checkout, and used by name.

    make clean-room

builds an sdist, a wheel from that, and an environment of its own beside the one that runs this; the
wheel is installed there with the pinned hosts and mim, and `in_the_room.py` lists, builds, runs and
trains there. Nothing of it can see the checkout.

The hosts are not downloaded or compiled again: their installed files are linked, as pip recorded
them, from the environment that `make setup` made of requirements.txt.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = 'mmvitlin'
BUILD_SDIST = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'

# mim pins an old setuptools, rich and tqdm through a package for downloading data, which its other
# commands do without: so it comes alone, with what these import.
MIM = 'openmim==0.3.9'
MIM_IMPORTS = ('colorama', 'model-index', 'pandas', 'requests', 'rich', 'tabulate')


def say(text: str) -> None:
    """Print a line at once: what follows on the terminal may come from pip."""
    print(f'clean room: {text}', flush=True)


def run(*command: object, cwd: Path, quiet: bool = False) -> None:
    """Run a program without what would lead it back to the checkout; `quiet` leaves its errors."""
    kept = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    out = subprocess.DEVNULL if quiet else None
    subprocess.run([str(part) for part in command], cwd=cwd, env=kept, check=True, stdout=out)


def build(folder: Path) -> Path:
    """Build an sdist of the checkout and a wheel of the sdist; return the wheel."""
    python = sys.executable
    sources = folder / 'sources'  # a copy: building leaves files
    skip = shutil.ignore_patterns('__pycache__', '.*', 'work_dirs', 'data', 'build', '*.egg-info')
    shutil.copytree(ROOT, sources, ignore=skip)
    run(python, '-c', BUILD_SDIST, folder, cwd=sources, quiet=True)
    shutil.rmtree(sources)
    (sdist,) = folder.glob('*.tar.gz')
    options = ('--quiet', '--no-deps', '--no-build-isolation', '--no-index')
    run(python, '-m', 'pip', 'wheel', *options, '--wheel-dir', folder, sdist, cwd=folder)
    (wheel,) = folder.glob('*.whl')
    say(f'built {sdist.name}, and {wheel.name} from it')
    return wheel


def link(distribution: Distribution, target: Path) -> int:
    """Link a distribution's files into another environment's packages; return their number.

    Its commands, which contain the path of their interpreter, are not copied.
    """
    number = 0
    for file in distribution.files or ():
        source = Path(distribution.locate_file(file))
        place = target / file
        if '..' in file.parts or not source.is_file() or place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, place)
        except OSError:  # another disk
            shutil.copy2(source, place)
        number += 1
    return number


def make_environment(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel, the hosts and mim; return its interpreter."""
    run(sys.executable, '-m', 'venv', '--without-pip', folder / 'room', cwd=folder)
    python = folder / 'room/bin/python'
    packages = next((folder / 'room').glob('lib/python*/site-packages'))
    folders = sorted({sysconfig.get_path(kind) for kind in ('purelib', 'platlib')})
    number = sum(
        link(distribution, packages)
        for distribution in distributions(path=folders)
        if distribution.name != PACKAGE
    )
    say(f'linked {number} files of the pinned hosts')
    pip = (python, '-m', 'pip', 'install', '--quiet')
    run(*pip, '--no-deps', wheel, cwd=folder)
    say('installing mim without opendatalab, as pip will remark: only downloads of data ask for it')
    run(*pip, '--no-deps', MIM, cwd=folder)
    run(*pip, '--constraint', ROOT / 'requirements.txt', *MIM_IMPORTS, cwd=folder)
    return python


def main() -> None:
    """Build, install, use; a failure ends the program."""
    started = time.monotonic()
    # On the environment's disk, where its files can be linked.
    with tempfile.TemporaryDirectory(prefix='clean-room-', dir=sys.prefix) as name:
        folder = Path(name)
        python = make_environment(folder, build(folder))
        (folder / 'empty').mkdir()
        inside = folder / 'in_the_room.py'
        shutil.copy(Path(__file__).with_name('in_the_room.py'), inside)
        shutil.copy(ROOT / 'docs/digit.png', folder / 'empty')
        run(python, inside, ROOT, cwd=folder / 'empty')
    say(f'all of it works; {time.monotonic() - started:.0f} s')


if __name__ == '__main__':
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f'clean room: this failed, for the reason shown above: {error.cmd}')
