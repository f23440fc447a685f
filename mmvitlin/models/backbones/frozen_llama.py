"""Frozen blocks of LLaMA inside a vision model (arXiv 2310.12973)."""

import copy
from itertools import product

import torch
from torch import Tensor, nn

from mmvitlin.checkpoints.llama import (
    HOW_TO_GET,
    PARTS,
    part_shapes,
    random_llama_blocks,
    read_llama_blocks,
)
from mmvitlin.checks import one_of, positive_int
from mmvitlin.errors import CheckpointError
from mmvitlin.ops.llama_block import llama_block, rms_norm

RANDOM = 'random'  # the `checkpoint` for random weights
DTYPES = ('float16', 'bfloat16', 'float32', 'float64')


class _Weights:
    """Weights of the blocks, shared by all deep copies of a model."""

    def __init__(self, blocks: list[dict[str, Tensor]] | None = None):
        self.blocks = blocks

    def __deepcopy__(self, memo: dict) -> '_Weights':
        return self

    def on(self, device: torch.device) -> list[dict[str, Tensor]]:
        """Return the weights on `device`, moving them on first use."""
        assert self.blocks is not None  # since `FrozenLLaMA.prepare`
        if self.blocks[0]['ffn_norm.weight'].device != device:
            with torch.inference_mode(False):  # inference tensors could not be used in training
                self.blocks = [{n: w.to(device) for n, w in block.items()} for block in self.blocks]
        return self.blocks

    def equal(self, blocks: list[dict[str, Tensor]]) -> bool:
        """Compare with `blocks`, on any device."""
        assert self.blocks is not None  # as in `FrozenLLaMA._take`
        return all(
            torch.equal(value, other[name].to(value.device))
            for block, other in zip(self.blocks, blocks)
            for name, value in block.items()
        )


class FrozenLLaMA(nn.Module):
    """The last blocks of LLaMA, then an RMSNorm without a weight: (B, N, C) -> (B, N, C).

    The weights are plain tensors without gradients, neither parameters nor buffers: no optimizer,
    average or cast of the model changes them. Buffers would be broadcast in every forward pass by
    DistributedDataParallel's default, 405 or 810 MB for LLaMA-7B. The weights move to the device of
    the tokens. Deep copies of the model, such as averages, share them and do not save them.

    They come from a checkpoint of the model that contains them, or from `checkpoint`. `prepare`
    reads the latter when a checkpoint of the model without them is loaded, or in the first forward
    pass.

    Args:
        embed_dims, num_heads, feedforward_channels: of the LLaMA; 4096, 32 and 11008 in the 7B.
        num_blocks: the number of blocks, the last ones of the file.
        checkpoint: as for `read_llama_blocks`; 'random' for random weights with a fixed seed; None
            if a checkpoint of the model contains the weights.
        dtype: of the weights and their products, independent of the model's: 'float16',
            'bfloat16', 'float32' or 'float64'.
        save: write the weights into checkpoints of the model, which adds 405 MB per block of
            LLaMA-7B in half precision and 810 MB in float32.

    Raises:
        ValueError: an argument out of range.
        CheckpointError: see `prepare`.
    """

    def __init__(
        self,
        embed_dims: int = 4096,
        num_heads: int = 32,
        feedforward_channels: int = 11008,
        num_blocks: int = 1,
        checkpoint: str | None = None,
        dtype: str = 'float32',
        save: bool = False,
    ):
        super().__init__()
        sizes = dict(
            embed_dims=embed_dims,
            num_heads=num_heads,
            feedforward_channels=feedforward_channels,
            num_blocks=num_blocks,
        )
        for name, value in sizes.items():
            positive_int(f'{name} of llama', value)
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims of llama must be a multiple of its num_heads, got {embed_dims} with '
                f'{num_heads} heads'
            )
        one_of('dtype of llama', dtype, DTYPES)
        self.embed_dims, self.num_heads, self.num_blocks = embed_dims, num_heads, num_blocks
        self.checkpoint = checkpoint
        self.dtype = getattr(torch, dtype)
        self.save = save
        self._shapes = part_shapes(embed_dims, feedforward_channels)
        self._is_copy = False
        self._weights = _Weights()

    def forward(self, x: Tensor) -> Tensor:
        self.prepare(required=True)
        dtype = x.dtype
        for block in self._weights.on(x.device):
            x = llama_block(x, block, self.num_heads)
        return rms_norm(x).to(dtype)

    @property
    def num_weights(self) -> int:
        """The number of weights in the blocks, loaded or not."""
        shapes = self._shapes.values()
        return self.num_blocks * sum(torch.Size(shape).numel() for shape in shapes)

    def prepare(self, required: bool = False) -> None:
        """Load the weights from `checkpoint`, or draw random ones, unless they are loaded.

        Raises:
            CheckpointError: `checkpoint` cannot be read, or is None and weights are `required`.
        """
        if self._weights.blocks is not None:
            return
        if self.checkpoint is None:
            if required:
                raise CheckpointError(_no_weights('there is no checkpoint to take it from'))
            return
        with torch.inference_mode(False):
            if self.checkpoint == RANDOM:
                blocks = random_llama_blocks(self._shapes, self.num_blocks, self.dtype)
            else:
                blocks = read_llama_blocks(
                    self.checkpoint, self._shapes, self.num_blocks, self.dtype
                )
        self._weights.blocks = blocks

    def take_empty(self) -> None:
        """Replace the weights by uninitialised tensors, for runs that need shapes only.

        Other copies keep theirs.
        """
        self._weights = _Weights(
            [
                {part: torch.empty(shape, dtype=self.dtype) for part, shape in self._shapes.items()}
                for _ in range(self.num_blocks)
            ]
        )

    def take_from(self, weights: dict[str, Tensor], prefix: str) -> None:
        """Load the blocks from a state dict that contains all of them.

        They are removed from `weights` unless the module saves them.

        Raises:
            CheckpointError: their shapes do not match.
        """
        names = {f'{prefix}layers.{i}.{part}': (i, part) for i, part in self._names()}
        if names.keys() <= weights.keys():
            try:
                self.load_state_dict({name.removeprefix(prefix): weights[name] for name in names})
            except RuntimeError as error:
                reason = ' '.join(str(error).split())
                raise CheckpointError(f'the block of LLaMA does not fit: {reason}') from error
            for name in () if self.save else names:
                del weights[name]

    def __deepcopy__(self, memo: dict) -> 'FrozenLLaMA':
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy({**self.__dict__, '_is_copy': True}, memo)
        return copied

    def _names(self) -> list[tuple[int, str]]:
        return list(product(range(self.num_blocks), PARTS))

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Save the weights if `save` is set, except in deep copies."""
        if self.save and not self._is_copy and self._weights.blocks is not None:
            for index, part in self._names():
                destination[f'{prefix}layers.{index}.{part}'] = self._weights.blocks[index][part]

    def _load_from_state_dict(
        self,
        state_dict: dict,
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load the weights from a state dict, or from `checkpoint` if the state dict has none.

        Raises:
            CheckpointError: neither contains them. A deep copy waits for its original instead.
        """
        names = {f'{prefix}layers.{i}.{part}': (i, part) for i, part in self._names()}
        there = [name for name in state_dict if name.startswith(prefix)]
        if strict:
            unexpected_keys += [name for name in there if name not in names]
        if not names.keys() & set(there):
            if self._is_copy:
                return
            self.prepare()
            if self._weights.blocks is None:
                raise CheckpointError(_no_weights('the checkpoint was saved without it'))
            return
        wrong = [
            f'{name}: {tuple(state_dict[name].shape)} in the checkpoint, {self._shapes[part]} here'
            for name, (_, part) in names.items()
            if name in state_dict and tuple(state_dict[name].shape) != self._shapes[part]
        ]
        missing_keys += [name for name in names if name not in state_dict]
        error_msgs += wrong
        if not wrong and all(name in state_dict for name in names):
            blocks: list[dict[str, Tensor]] = [{} for _ in range(self.num_blocks)]
            with torch.inference_mode(False):
                for name, (index, part) in names.items():
                    blocks[index][part] = state_dict[name].detach().to(self.dtype, copy=True)
            self._take(blocks)

    def _take(self, blocks: list[dict[str, Tensor]]) -> None:
        """Set the shared weights; if they differ from the loaded ones, stop sharing."""
        if self._weights.blocks is None:
            self._weights.blocks = blocks
        elif not self._weights.equal(blocks):
            self._weights = _Weights(blocks)

    def extra_repr(self) -> str:
        """Return the text that `print(model)` shows for the module."""
        dtype = str(self.dtype).removeprefix('torch.')
        return f'{self.num_blocks} x {self.embed_dims}, checkpoint={self.checkpoint!r}, {dtype}'


def _no_weights(reason: str) -> str:
    return (
        f'the block of LLaMA has no weights: {reason}. Give the backbone '
        'llama=dict(checkpoint=PATH), or start from a checkpoint that was saved with its block; '
        f"checkpoint='random' draws one. {HOW_TO_GET}"
    )
