"""Extract single blocks of LLaMA into a safetensors file, about 400 MB instead of 13 GB.

SRC is Meta's consolidated.00.pth, a .safetensors or .bin file or an .index.json in the Hugging Face
layout, or a folder with one of these. DST holds the layers under Meta's names and in their original
dtype, with checksums that are checked whenever the file is read.
"""

import argparse
from itertools import count
from pathlib import Path

import torch

from mmvitlin.checkpoints.llama import PARTS, LLaMACheckpoint, write_llama_blocks
from mmvitlin.engine.launcher import one_line_errors

DTYPES = ('float32', 'bfloat16', 'float16')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', type=Path, help='the checkpoint of LLaMA')
    parser.add_argument('dst', metavar='DST', type=Path, help='the .safetensors file to write')
    parser.add_argument(
        '--layers',
        nargs='+',
        type=int,
        metavar='N',
        help='the layers to extract, from 0 (default: the last one)',
    )
    parser.add_argument('--dtype', choices=DTYPES, help='convert to this dtype (default: keep)')
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    args = parser.parse_args()
    if args.dst.suffix != '.safetensors':
        parser.error(f'DST must end in .safetensors, got {args.dst}')
    if args.dst.exists() and not args.force:
        parser.error(f'{args.dst} is there already; --force overwrites it')
    return args


def main() -> None:
    """Extract the blocks."""
    args = parse_args()
    llama = LLaMACheckpoint(args.src)
    layers = sorted(set(args.layers or llama.layers[-1:]))
    dtype = args.dtype and getattr(torch, args.dtype)
    numbers, total = count(1), len(layers) * len(PARTS)

    def report(name: str) -> None:
        print(f'[{next(numbers)}/{total}] {name}', flush=True)

    blocks = {layer: llama.read(layer, dtype=dtype, report=report) for layer in layers}
    write_llama_blocks(args.dst, blocks, source=args.src.name)
    megabytes = args.dst.stat().st_size / 1e6
    print(f'{args.dst}: layer {", ".join(map(str, layers))} of {args.src}, {megabytes:.0f} MB')


if __name__ == '__main__':
    with one_line_errors():
        main()
