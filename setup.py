"""Install mmvitlin beside whatever OpenMMLab packages are there, without touching them."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = {}
exec((ROOT / 'mmvitlin/version.py').read_text(), VERSION)

setup(
    name='mmvitlin',
    version=VERSION['__version__'],
    description='Efficient vision transformers for mmpretrain, mmdetection and mmsegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmvitlin', 'mmvitlin.*']),
    python_requires='>=3.10',
    # Nothing is required: pip would exchange the torch, mmcv or mm packages that a user has built
    # or patched. README.md names what has to be there; requirements.txt pins what we test with.
    install_requires=[],
)
