"""LION's attention: its chunks beside its equation and beside softmax attention.

12 heads of 64 channels, one image, float32; inputs are queries and keys behind their feature map.
`Decay` has a gate a head, `Selective` one a token and head. Softmax attention is torch's fused
`scaled_dot_product_attention`. The equation is left out where its matrices do not fit: at 16384
tokens each takes 12 GiB. So is softmax attention at 65536, where one forward pass takes more than
a minute.
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
# Tokens up to which the slow ones are measured.
LONGEST = {
    'forward': dict(equation=4096, softmax=16384),
    'forward and backward': dict(equation=1024, softmax=4096),
}

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def softmax(length: int, device: str) -> Attend:
    """Fused attention."""
    return F.scaled_dot_product_attention


def lion(length: int, device: str, form: Callable, selective: bool) -> Attend:
    """LION's attention in one of its forms, with gates spread evenly between 0 and 1."""
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
    """Attend, without gradients."""
    q, k, v = inputs(length, device)
    attend = make(length, device)
    return torch.inference_mode()(lambda: attend(q, k, v))


def forward_backward(make: Callable[[int, str], Attend], length: int, device: str) -> Step:
    """Attend, and the gradients of q, k and v from a random one."""
    tensors = [x.requires_grad_() for x in inputs(length, device)]
    attend = make(length, device)
    gradient = torch.randn_like(tensors[-1])
    return lambda: torch.autograd.grad(attend(*tensors), tensors, gradient)


def inputs(length: int, device: str) -> list[Tensor]:
    """Positive q and k, and v, (1, heads, L, D)."""
    return [torch.rand(1, HEADS, length, WIDTH, device=device) for _ in range(3)]


STEPS = {'forward': forward, 'forward and backward': forward_backward}


def groups(device: str, lengths: tuple[int, ...] = LENGTHS) -> list[Group]:
    """Every length beside softmax attention, and how time grows with the length."""
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
