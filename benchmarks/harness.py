"""Measurement of time and memory.

A `Case` builds a step, and a `Table` holds cases of one setting. The cases of a table are timed in
turns, because the speed of a machine changes: two turns of one round run at nearly the same speed,
so their ratio is more reliable than their times. Peak memory is measured in a process per case.
"""

import os
import pickle
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count

from mmvitlin.engine.cost import HANDLES

ROOT = Path(__file__).resolve().parent.parent
TURN_SECONDS = 0.05  # a turn lasts at least this long; a short step is repeated
LONG_STEP_SECONDS = 0.5  # from here on, counting the work of a step says how long it takes
ROUNDS = 3, 20  # at least, at most
QUIET_CORES = 0.1  # other programs may use as much of a core before a run is called disturbed
PEAK_MEMORY = {'cpu': 'growth of peak RSS', 'cuda': 'torch.cuda.max_memory_allocated'}

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Row of a table.

    Args:
        name: name of the case.
        build: creates the step to measure, with its models and inputs. It must be picklable: a
            function at the top of a module, or `functools.partial` of one.
        peer: the case of the same table that its time is divided by; None for a peer itself.
        eager: the case that it is the compiled form of.
        theory: exponents of time and memory in the number of tokens.
        peak_step: the step that takes the most memory, from 1.
    """

    name: str
    build: Callable[[], Step]
    peer: str | None = None
    eager: str | None = None
    theory: tuple[int, int] | None = None
    peak_step: int = 1

    def __post_init__(self):
        try:
            pickle.dumps(self.build)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f'case {self.name!r}: build must be a function at the top of a module, or '
                f'functools.partial of one, got {self.build!r}, which cannot be pickled'
            ) from error


@dataclass(frozen=True)
class Table:
    """Cases of one setting.

    Args:
        name: of the setting.
        cases: what is compared.
        series: tables of one series show growth: exponents are fitted over their tokens.
        tokens: processed by a step.
        images: processed by a step, where images per second are the point.
        threads: of torch; None for those of the run.
        memory: False leaves peak memory and the share of the roofline out.
    """

    name: str
    cases: Sequence[Case]
    series: str = ''
    tokens: int | None = None
    images: int | None = None
    threads: int | None = None
    memory: bool = True

    def __post_init__(self):
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ValueError(f'table {self.name!r}: the names of cases must differ, got {names}')
        for case in self.cases:
            for other in (case.peer, case.eager):
                if other is not None and other not in names:
                    raise ValueError(f'table {self.name!r}: {other!r} is not among {names}')


# Time


def measure(table: Table, seconds: float, threads: int, rates: 'Rates', device: str) -> dict:
    """Time the cases of a table in turns.

    Args:
        seconds: of all rounds together, about; the number of rounds follows.
        rates: of the machine.

    Returns:
        The table's entry in the report, without peak memory.
    """
    torch.set_num_threads(table.threads or threads)
    log(f'  {table.name} ')
    turns, lengths, work = {}, [], {}
    for case in table.cases:
        step, length = build(case), 0.0
        if table.memory and case.eager is None:
            started = perf_counter()
            work[case.name] = count_work(step, rates)
            length = perf_counter() - started
        else:
            step()
        if length < LONG_STEP_SECONDS:
            length = _turn(step, 1, device)
        repeats = max(1, ceil(TURN_SECONDS / length))
        turns[case.name] = lambda step=step, repeats=repeats: _turn(step, repeats, device)
        lengths.append(length * (repeats + (repeats > 1)))
        log('-')
    fewest, most = ROUNDS
    rounds = int(min(max(seconds / sum(lengths), fewest), most))
    with others_cores() as others:
        timed = interleave(turns, rounds)
    log(f' {rounds} rounds\n')
    return {
        'name': table.name,
        'series': table.series,
        'tokens': table.tokens,
        'images': table.images,
        'cores_used_by_others': others(),
        'cases': [summarise(case, timed, work) for case in table.cases],
    }


def build(case: Case) -> Step:
    """Build the step of a case, with the same random numbers for every case."""
    torch.manual_seed(0)
    return case.build()


def _turn(step: Step, repeats: int, device: str) -> float:
    """Return the seconds of a step; a short one, which is repeated, first fills the caches."""
    if repeats > 1:
        step()
    _synchronize(device)
    started = perf_counter()
    for _ in range(repeats):
        step()
    _synchronize(device)
    return (perf_counter() - started) / repeats


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def interleave(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each of `turns` once per round; each round begins with the next one of them."""
    names = list(turns)
    results: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(turns[name]())
        log('.')
    return results


def summarise(case: Case, timed: Mapping[str, Sequence[float]], work: Mapping[str, 'Work']) -> dict:
    """Summarise a case for the report; ratios are computed within each round."""
    seconds = timed[case.name]
    done = work.get(case.name)
    entry = {
        'name': case.name,
        'peer': case.peer,
        'eager': case.eager,
        'theory': case.theory,
        'seconds': spread(seconds),
        'flops': done.flops if done else None,
        'roofline_share': done.seconds / float(np.median(seconds)) if done else None,
        'seconds_of_rounds': list(seconds),
    }
    for key, other in (('ratio', case.peer), ('eager_ratio', case.eager)):
        entry[key] = spread(np.divide(seconds, timed[other])) if other else None
    return entry


def spread(values: Sequence[float]) -> dict[str, float]:
    """Compute minimum, quartiles and median."""
    quantiles = np.quantile(values, (0, 0.25, 0.5, 0.75)).tolist()
    return dict(zip(('min', 'q25', 'median', 'q75'), quantiles, strict=True))


# Roofline


@dataclass(frozen=True)
class Rates:
    """Rates of the machine: FLOPs per second of matrix products by dtype, bytes per second."""

    flops: Mapping[torch.dtype, float]
    bytes: float


@dataclass
class Work:
    """Work of a step: its FLOPs, and its seconds at the rates of the machine."""

    flops: int = 0
    seconds: float = 0.0


def measure_rates(device: str, side: int = 2048, copied: int = 2**28) -> Rates:
    """Measure matrix products of `side` and copies of `copied` bytes, the best of some."""

    def best(step: Step) -> float:
        step()
        return min(_turn(step, 1, device) for _ in range(5))

    flops = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        flops[dtype] = 2 * side**3 / best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(flops, 2 * copied / best(lambda: target.copy_(source)))


def count_work(step: Step, rates: Rates) -> Work:
    """Count the work of a step operator by operator.

    An operator takes at least the time of its FLOPs at the rate of matrix products, and that of
    reading its inputs and writing its outputs once at the rate of a copy; the larger counts. This
    is the roofline of unfused operators: a compiled or cache-blocked step can be above it.
    """
    counter = FlopCounterMode(display=False, custom_mapping=HANDLES | BACKWARD)
    work = Work()
    with counter, _Counting(counter, rates, work):
        step()
    return work


def _attention_backward_flops(
    gradient: torch.Size, q: torch.Size, k: torch.Size, v: torch.Size, *_, **__
) -> int:
    return sdpa_backward_flop_count(gradient, q, k, v)


def _convolution_backward_flops(
    gradient: torch.Size, x: torch.Size, weight: torch.Size, *args, **__
) -> int:
    transposed, output_mask = args[4], args[7]
    positions = (x if transposed else gradient)[2:].numel() * gradient[0]
    return 2 * positions * weight.numel() * sum(output_mask[:2])


# The fused attention of CPUs, which torch's counter has no formula for, and convolutions, of which
# its formula ignores the groups.
BACKWARD = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    torch.ops.aten.convolution_backward: _convolution_backward_flops,
}


class _Counting(TorchDispatchMode):
    def __init__(self, counter: FlopCounterMode, rates: Rates, work: Work):
        super().__init__()
        self.counter, self.rates, self.work = counter, rates, work

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = self.counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        tensors = list(_tensors((args, kwargs, out)))
        flops = self.counter.get_total_flops() - before
        moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        low = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in tensors)
        rate = self.rates.flops[torch.bfloat16 if low else torch.float32]
        self.work.flops += flops
        self.work.seconds += max(flops / rate, moved / self.rates.bytes)
        return out


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


# Memory


def peak_memory(case: Case, device: str, threads: int) -> int:
    """Measure the peak memory in bytes of building a case and its steps, in a process of its own.

    For the CPU the process is forked, so that it starts with the imports done. Call this before the
    calling process computes anything: a fork has none of the threads that torch has started. CUDA
    does not survive a fork.
    """
    context = get_context('fork' if device == 'cpu' else 'spawn')
    with ProcessPoolExecutor(1, mp_context=context) as child:
        try:
            return child.submit(_peak_memory_here, case, device, threads).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f'the process that measured the memory of {case.name!r} was killed, most likely '
                'because the machine has too little: make the case smaller, or pass --no-memory'
            ) from error


def _peak_memory_here(case: Case, device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    before = peak_rss()
    step = build(case)
    for _ in range(case.peak_step):
        step()
    return torch.cuda.max_memory_allocated() if device == 'cuda' else peak_rss() - before


def peak_rss() -> int:
    """Return the peak resident memory of this process so far, in bytes (Linux)."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'VmHWM:\s*(\d+) kB', status)[1]) * 1024


# The machine


@contextmanager
def others_cores() -> Iterator[Callable[[], float]]:
    """Observe how many cores other programs use; the value is a function, to call afterwards."""
    busy, own, started = _busy_seconds(), _own_seconds(), perf_counter()
    found = []
    yield lambda: found[0]
    taken = _busy_seconds() - busy - (_own_seconds() - own)
    found.append(max(taken / (perf_counter() - started), 0.0))


def _busy_seconds() -> float:
    """Return the CPU seconds of the whole machine since it started, without idle ones."""
    fields = [int(x) for x in Path('/proc/stat').read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]  # idle, iowait
    return (sum(fields) - idle) / os.sysconf('SC_CLK_TCK')


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def describe_machine(device: str, threads: int) -> dict:
    """Describe the machine, and what other programs do on it for a second."""
    model = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    with others_cores() as others:
        sleep(1)
    return {
        'cpu': model[1] if model else platform.machine(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cores': len(os.sched_getaffinity(0)),
        'threads': threads,
        'memory_bytes': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'),
        'gpu': torch.cuda.get_device_name() if device == 'cuda' else None,
        'load_average': list(os.getloadavg()),
        'cores_used_by_others': others(),
    }


def describe_versions() -> dict[str, str | None]:
    """Return the versions of imported packages (None if not imported), and the commit."""
    names = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'timm', 'mmvitlin')
    commit = _git('rev-parse', '--short=12', 'HEAD')
    return {
        'python': platform.python_version(),
        **{name: getattr(sys.modules.get(name), '__version__', None) for name in names},
        'cuda': torch.version.cuda if torch.cuda.is_available() else None,
        'commit': commit and commit + (' with changes' if _git('status', '--porcelain') else ''),
    }


def _git(*arguments: str) -> str | None:
    """Return the output of git; None without git, a repository or a commit."""
    try:
        return subprocess.run(
            ['git', *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def log(text: str) -> None:
    """Print progress to stderr, so that stdout has only the tables."""
    print(text, end='', file=sys.stderr, flush=True)
