"""Measure speed and memory beside named peers: all of it, or the groups that --only names.

A group is written to work_dirs/benchmarks/GROUP.json as soon as it is measured; --readme writes the
tables and pictures of all groups in that folder into README.md and benchmarks/.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from traceback import format_exc

import torch
from cases import GROUPS, Group
from harness import (
    PEAK_MEMORY,
    QUIET_CORES,
    Table,
    describe_machine,
    describe_versions,
    log,
    measure,
    measure_rates,
    others_cores,
    peak_memory,
)
from report import RESULTS, markdown, read_reports, update_readmes, write_json

from mmvitlin.errors import ConfigError

TRAINING_SHARE = 8  # the tables that whole trainings take as long as


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    groups = '\n'.join(
        f'  {name:24}{group.about}{"" if group.default else " (with --only or --all)"}'
        for name, group in GROUPS.items()
    )
    parser = argparse.ArgumentParser(
        description=f'{__doc__}\ngroups:\n{groups}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--only', nargs='+', choices=list(GROUPS), metavar='GROUP', help='measure these groups'
    )
    parser.add_argument('--all', action='store_true', help='measure groups as well that take long')
    parser.add_argument(
        '--setting', default='', metavar='TEXT', help='measure tables with TEXT in their names'
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few rounds of the first table of each group'
    )
    parser.add_argument(
        '--seconds', type=float, default=12, help='of the rounds of a table at most (default: 12)'
    )
    parser.add_argument(
        '--minutes',
        type=float,
        default=14,
        help='of the run: tables get fewer rounds, then are left out, to end in time (default: 14)',
    )
    parser.add_argument('--device', choices=list(PEAK_MEMORY), default='cpu')
    parser.add_argument(
        '--threads',
        type=int,
        default=len(os.sched_getaffinity(0)),
        help='of torch on the CPU (default: %(default)s)',
    )
    parser.add_argument('--no-memory', action='store_true', help='measure time only')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder (default: %(default)s)')
    parser.add_argument(
        '--readme', action='store_true', help='write tables and pictures of --out into the pages'
    )
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f'--threads must be at least 1, got {options.threads}')
    return options


def select(options: argparse.Namespace) -> dict[str, Group]:
    """Return the groups that the options name."""
    if options.only:
        return {name: GROUPS[name] for name in options.only}
    return {name: group for name, group in GROUPS.items() if group.default or options.all}


def tables_of(group: Group, options: argparse.Namespace) -> list[Table]:
    """Return the tables of a group that the options select."""
    if group.tables is None:
        return []
    tables = [t for t in group.tables(options.device) if options.setting in t.name]
    return tables[:1] if options.quick else tables


def run(options: argparse.Namespace) -> dict[str, dict]:
    """Measure the selected groups, write their files and print their tables.

    Returns:
        Group -> report.

    Raises:
        ConfigError: the options select nothing; after all others, the tables that failed.
    """
    selected = select(options)
    tables = {name: tables_of(group, options) for name, group in selected.items()}
    if not any(tables.values()) and not any(group.train for group in selected.values()):
        raise ConfigError(f'--setting {options.setting!r} is in the name of no table')
    run_started = perf_counter()
    machine = describe_machine(options.device, options.threads)
    warn_of_others(machine)
    # Memory first: cases run in forks of this process, which has computed nothing yet.
    peaks = {} if options.no_memory else peak_memories(tables, options)
    torch.set_num_threads(options.threads)
    rates = measure_rates(options.device)
    reports: dict[str, dict] = {}
    failed: list[str] = []
    shares = {name: len(tables[name]) or TRAINING_SHARE for name in selected}
    for name, group in selected.items():
        started = perf_counter()
        log(f'{name}\n')
        report = {
            'group': name,
            'started': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'machine': machine,
            'memory': PEAK_MEMORY[options.device],
            'rates': {
                **{str(dtype).removeprefix('torch.'): rate for dtype, rate in rates.flops.items()},
                'bytes': rates.bytes,
            },
        }
        if group.train:
            with others_cores() as others, going_on(failed, name):
                report |= group.train(options.threads, options.quick)
            report['cores_used_by_others'] = others()
        else:
            report['tables'] = []
            for table in tables[name]:
                left = options.minutes * 60 - (perf_counter() - run_started)
                if left < 0:
                    log(f'  {table.name}: left out, {options.minutes:g} minutes are over\n')
                    continue
                seconds = seconds_of_rounds(options, left / sum(shares.values()))
                with going_on(failed, f'{name}: {table.name}'):
                    entry = measure(table, seconds, options.threads, rates, options.device)
                    report['tables'].append(with_peaks(entry, name, peaks))
                shares[name] -= 1
        del shares[name]
        if not report.get('tables') and 'rows' not in report:
            continue
        report['versions'] = describe_versions()
        report['minutes'] = (perf_counter() - started) / 60
        write_json(report, options.out / f'{name}.json')
        print(f'\n### {name}\n\n{markdown(report)}', flush=True)
        log(f'  {report["minutes"]:.1f} minutes\n')
        reports[name] = report
    if failed:
        raise ConfigError(f'failed, see above, and left out: {"; ".join(failed)}')
    return reports


@contextmanager
def going_on(failed: list[str], name: str) -> Iterator[None]:
    """Print an error and enter the name, so that what is measured otherwise is not lost."""
    try:
        yield
    except Exception:
        log(f'\n{format_exc()}')
        failed.append(name)


def warn_of_others(machine: dict) -> None:
    """Say when the machine is not quiet."""
    load = ', '.join(f'{value:.1f}' for value in machine['load_average'])
    used = machine['cores_used_by_others']
    if used > QUIET_CORES:
        log(
            f'THE MACHINE IS NOT QUIET: other programs use {used:.1f} of {machine["cores"]} cores '
            f'(load average {load}); compare ratios, and measure again before you quote them\n'
        )
    else:
        log(f'the machine is quiet (load average {load})\n')


def peak_memories(
    tables: dict[str, list[Table]], options: argparse.Namespace
) -> dict[tuple[str, str, str], int]:
    """Measure the peak memory of eager cases, in a third of the run's minutes at most.

    Returns:
        (group, table, case) -> bytes.
    """
    peaks: dict[tuple[str, str, str], int] = {}
    started = perf_counter()
    for name, of_group in tables.items():
        log(f'memory of {name} ')
        for table in of_group:
            for case in table.cases if table.memory else ():
                if (perf_counter() - started) / 60 > options.minutes / 3:
                    log('left out: a third of --minutes is over\n')
                    return peaks
                if case.eager is None:
                    key = name, table.name, case.name
                    peaks[key] = peak_memory(case, options.device, options.threads)
                    log('.')
        log(f' {(perf_counter() - started) / 60:.1f} minutes\n')
    return peaks


def seconds_of_rounds(options: argparse.Namespace, share: float) -> float:
    """Return the seconds of a table's rounds, given its share of the seconds that are left.

    The other half of the share is for building models, counting their work and a first step.
    """
    return 0 if options.quick else min(options.seconds, max(share / 2, 0))


def with_peaks(entry: dict, group: str, peaks: dict[tuple[str, str, str], int]) -> dict:
    """Enter peak memories in the report of a table."""
    for case in entry['cases']:
        case['peak_memory_bytes'] = peaks.get((group, entry['name'], case['name']))
    return entry


def main() -> None:
    """Run the benchmark."""
    options = parse_args()
    try:
        run(options)
    except ConfigError as error:
        raise SystemExit(f'benchmark.py: {error}') from error
    finally:
        if options.readme:
            update_readmes(read_reports(options.out, GROUPS))


if __name__ == '__main__':
    main()
