"""Install mmvitlin beside whatever OpenMMLab packages are there, without touching them.

A wheel or sdist carries configs/, tools/ and model-index.yml in `mmvitlin/.mim`, where mim and
`mmvitlin.apis.model_index` look for them. An editable installation uses those of the checkout.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
VERSION = {}
exec((ROOT / 'mmvitlin/version.py').read_text(), VERSION)

MIM = Path('mmvitlin/.mim')
MIM_FOLDERS = ('configs', 'tools')
MIM_SUFFIXES = {'.py', '.sh', '.yml', '.md'}


def mim_files() -> dict[Path, Path]:
    """What goes into `MIM`, from a checkout or an unpacked sdist: place in it -> file."""
    source = ROOT if (ROOT / 'model-index.yml').is_file() else ROOT / MIM
    files = [source / 'model-index.yml']
    for folder in MIM_FOLDERS:
        files += [path for path in (source / folder).rglob('*') if path.suffix in MIM_SUFFIXES]
    return {path.relative_to(source): path for path in sorted(files)}


class BuildPy(build_py):
    """Puts `mim_files` into what is built."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        old = Path(self.build_lib, MIM)
        if old.exists():  # from a build before this one, with configs that may be gone
            shutil.rmtree(old)
        for place, path in mim_files().items():
            target = Path(self.build_lib, MIM, place)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))

    def get_outputs(self, include_bytecode=True):
        """Name what is built, for installations that record it."""
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs += [str(Path(self.build_lib, MIM, place)) for place in mim_files()]
        return outputs


class SDist(sdist):
    """Puts `mim_files` into the source distribution, where the package will have them."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for place, path in mim_files().items():
            target = Path(base_dir, MIM, place)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(
    name='mmvitlin',
    version=VERSION['__version__'],
    description='Efficient vision transformers for mmpretrain, mmdetection and mmsegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmvitlin', 'mmvitlin.*']),
    cmdclass={'build_py': BuildPy, 'sdist': SDist},
    python_requires='>=3.10',
    # Nothing is required: pip would exchange the torch, mmcv or mm packages that a user has built
    # or patched. README.md names what has to be there; requirements.txt pins what we test with.
    install_requires=[],
)
