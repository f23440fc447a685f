"""LION's attention in chunks, compared with its naive form and with softmax attention.

12 heads of 64 channels, one image, float32; the inputs are queries and keys after their feature
map. `Decay` has a gate per head, `Selective` a gate per token and head. Softmax attention is
torch's fused `scaled_dot_product_attention`. The naive form is not measured if its matrices do not
fit into memory: at 16384 tokens each has 12 GiB. Neither is softmax attention at 65536 tokens,
where a forward pass takes more than a minute.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import Case, Group, Step, option_parser, run
from torch import Tensor

from mmvitlin.ops.decayed_attention import Scan, blocked_chunk_form, decayed_attention, naive_form

HEADS, WIDTH = 12, 64
LENGTHS = (197, 1024, 4096, 16384, 65536)
# Largest numbers of tokens at which the slow forms are measured.
LONGEST = {
    'forward': dict(equation=4096, softmax=16384),
    'forward and backward': dict(equation=1024, softmax=4096),
}

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def softmax(length: int, device: str) -> Attend:
    """Return torch's fused attention."""
    return F.scaled_dot_product_attention


def lion(length: int, device: str, form: Callable, selective: bool) -> Attend:
    """Return a form of LION's attention, with gates drawn uniformly from 0 to 1."""
    gates = torch.rand(1, HEADS, length if selective else 1, device=device)
    return partial(decayed_attention, scans=[Scan(gates.log())], form=form)


CHUNKS = {
    'Chunk, Selective': partial(lion, form=blocked_chunk_form, selective=True),
    'Chunk, Decay': partial(lion, form=blocked_chunk_form, selective=False),
}
EQUATION = {'Attention, Selective': partial(lion, form=naive_form, selective=True)}
PEER = 'SDPA softmax'
SOFTMAX = {PEER: softmax}


def forward(make: Callable[[int, str], Attend], length: int, device: str) -> Step:
    """Create a step: attention without gradients."""
    q, k, v = inputs(length, device)
    attend = make(length, device)
    return torch.inference_mode()(lambda: attend(q, k, v))


def forward_backward(make: Callable[[int, str], Attend], length: int, device: str) -> Step:
    """Create a step: attention, and the gradients of q, k and v."""
    tensors = [x.requires_grad_() for x in inputs(length, device)]
    attend = make(length, device)
    gradient = torch.randn_like(tensors[-1])
    return lambda: torch.autograd.grad(attend(*tensors), tensors, gradient)


def inputs(length: int, device: str) -> list[Tensor]:
    """Draw positive q, k and v, (1, heads, L, D)."""
    return [torch.rand(1, HEADS, length, WIDTH, device=device) for _ in range(3)]


STEPS = {'forward': forward, 'forward and backward': forward_backward}


def groups(device: str, lengths: tuple[int, ...] = LENGTHS) -> list[Group]:
    """Compare with softmax attention at every length, and two lengths with each other."""
    found = []
    for name, step in STEPS.items():
        for length in lengths:
            makes = CHUNKS | (EQUATION if length <= LONGEST[name]['equation'] else {}) | SOFTMAX
            if length <= LONGEST[name]['softmax']:
                cases = [Case(n, partial(step, m, length, device)) for n, m in makes.items()]
                found.append(Group(f'{name}, {length} tokens', peer=PEER, cases=cases))
    shorter, longer = lengths[-2:]
    for name, make in CHUNKS.items():
        cases = [Case(f'{n} tokens', partial(forward, make, n, device)) for n in (longer, shorter)]
        found.append(Group(f'growth of {name}', peer=f'{shorter} tokens', cases=cases))
    return found


if __name__ == '__main__':
    parser = option_parser('lion_formats', __doc__)
    parser.set_defaults(rounds=5, warmup=1)
    options = parser.parse_args()
    run(groups(options.device), options)
