"""Set-up of mmvitlin, which requires no package, so that pip keeps the installed OpenMMLab.

Wheels and source distributions have configs/, tools/ and model-index.yml in `mmvitlin/.mim`, where
mim and `mmvitlin.apis.model_index` look for them. An editable installation uses those of the
checkout.
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
    """List the files for `MIM`, from a checkout or an unpacked sdist: path in `MIM` -> file."""
    source = ROOT if (ROOT / 'model-index.yml').is_file() else ROOT / MIM
    files = [source / 'model-index.yml']
    for folder in MIM_FOLDERS:
        files += [path for path in (source / folder).rglob('*') if path.suffix in MIM_SUFFIXES]
    return {path.relative_to(source): path for path in sorted(files)}


class BuildPy(build_py):
    """Build command that adds `mim_files`."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        old = Path(self.build_lib, MIM)
        if old.exists():  # of an earlier build, perhaps with configs that do not exist any more
            shutil.rmtree(old)
        for place, path in mim_files().items():
            target = Path(self.build_lib, MIM, place)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))

    def get_outputs(self, include_bytecode=True):
        """List the built files; some installations record them."""
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs += [str(Path(self.build_lib, MIM, place)) for place in mim_files()]
        return outputs


class SDist(sdist):
    """Source distribution that has `mim_files` inside the package."""

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
    package_data={'mmvitlin': ['py.typed']},
    cmdclass={'build_py': BuildPy, 'sdist': SDist},
    python_requires='>=3.10',
    # No requirements: pip would replace a torch, mmcv or mm package that the user has built or
    # patched. README.md names the needed packages; requirements.txt pins the tested versions.
    install_requires=[],
    extras_require=dict(
        docs=[
            'mkdocs>=1.6,<1.7',
            'mkdocs-material>=9.7,<10',
            'mkdocstrings[python]>=1,<2',
            'latex2mathml>=3.78,<4',
        ],
        export=['onnx', 'onnxscript', 'onnxruntime'],  # tools/export.py --format onnx
        jpeg=['simplejpeg'],  # LoadAndCrop; it needs numpy alone
    ),
)
