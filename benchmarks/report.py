"""Reports: JSON, tables, pictures, and the blocks of the README files that hold them."""

import json
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import matplotlib
import numpy as np
from harness import QUIET_CORES, ROOT, log

from mmvitlin.checkpoints.atomic_write import atomic_write

matplotlib.use('agg')
from matplotlib import pyplot

RESULTS = ROOT / 'work_dirs/benchmarks'
PICTURES = ROOT / 'benchmarks/pictures'
MEBIBYTE = 2**20
BLOCK = '<!-- {name} -->\n{text}\n<!-- /{name} -->'
# Rows of the summary in the README of the project: group, table, case.
SUMMARY = (
    ('hierarchical-inference', 'inference, 8 x 224 x 224', 'L2ViT-tiny'),
    ('hierarchical-growth', 'inference, 1 x 800 x 1216', 'L2ViT-tiny'),
    ('hierarchical-training', 'training step, 8 x 224 x 224', 'L2ViT-tiny'),
    ('plain-inference', 'inference, 8 x 224 x 224', 'LION-D'),
    ('plain-inference', 'inference, 8 x 224 x 224', 'LION-S♮'),
    ('plain-growth', 'inference, 1 x 1024 x 1024', 'LION-D'),
    ('plain-growth', 'inference, 1 x 1024 x 1024', 'LION-S♮'),
    ('plain-training', 'training step, 8 x 224 x 224', 'LION-D'),
    ('token-expansion', 'training step, 16 x 224 x 224', 'stage 1'),
    ('input', '64 images, 500 x 375', 'LoadAndCrop'),
)


# Files


def write_json(report: dict, path: Path) -> None:
    """Write a report atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(report, indent=2, default=str) + '\n')


def read_reports(folder: Path, names: Iterable[str]) -> dict[str, dict]:
    """Read the reports of groups that have been measured, in the order of `names`."""
    paths = {name: folder / f'{name}.json' for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def fill_blocks(path: Path, texts: dict[str, str]) -> None:
    """Replace the text between the markers '<!-- NAME -->' and '<!-- /NAME -->'.

    Raises:
        ValueError: the file has no block of a name.
    """
    page = path.read_text()
    for name, text in texts.items():
        pattern = BLOCK.format(name=re.escape(name), text='.*?').replace('\n.*?\n', '\n.*?')
        page, found = re.subn(
            pattern, lambda _, n=name, t=text: BLOCK.format(name=n, text=t), page, flags=re.DOTALL
        )
        if found != 1:
            raise ValueError(f'{path} has {found} blocks <!-- {name} -->, expected one')
    with atomic_write(path) as partial:
        partial.write_text(page)


def update_readmes(reports: dict[str, dict]) -> None:
    """Write tables into benchmarks/README.md, the summary into README.md, and the pictures."""
    blocks = {}
    for name, report in reports.items():
        paths = draw(name, report, PICTURES)
        pictures = [f'![Growth with tokens](pictures/{path.name})' for path in paths]
        blocks[name] = '\n\n'.join([markdown(report), *pictures])
    fill_blocks(ROOT / 'benchmarks/README.md', blocks)
    fill_blocks(ROOT / 'README.md', {'speed': summary(reports)})
    log('README.md and benchmarks/README.md are up to date\n')


# Tables


def markdown(report: dict) -> str:
    """Format the report of a group."""
    lines = [circumstances(report), '']
    if 'rows' in report:
        return '\n'.join(lines + training_rows(report['rows']))
    images = report['tables'][0]['images']
    lines += throughput_rows(report['tables']) if images else time_rows(report['tables'])
    exponents = fit_exponents(report['tables'])
    if exponents:
        lines += ['', *exponent_rows(exponents)]
    return '\n'.join(lines)


def circumstances(report: dict) -> str:
    """Describe machine, load and versions in a line."""
    machine = report['machine']
    parts = [
        machine['gpu'] or f'{machine["cpu"]} ({machine["cpu_capability"]})',
        f'{machine["threads"]} threads on {machine["cores"]} cores',
        quietness(report),
        *(f'{name} {version}' for name, version in report['versions'].items() if version),
        report['started'],
    ]
    if 'rates' in report:
        rates = report['rates']
        parts.insert(
            2,
            f'{rates["float32"] / 1e9:.0f} GFLOP/s in float32 and {rates["bfloat16"] / 1e9:.0f} in '
            f'bfloat16 products, copies {rates["bytes"] / 1e9:.1f} GB/s',
        )
    return ', '.join(parts)


def quietness(report: dict) -> str:
    """Describe how much of the machine other programs used."""
    used = [table['cores_used_by_others'] for table in report.get('tables', [])]
    used.append(report.get('cores_used_by_others', 0.0))  # of whole trainings
    most = max([report['machine']['cores_used_by_others'], *used])
    return 'quiet' if most <= QUIET_CORES else f'**not quiet**: others used up to {most:.1f} cores'


def time_rows(tables: list[dict]) -> list[str]:
    """Format times, ratios, memory and shares of the roofline."""
    compiled = any(case['eager'] for table in tables for case in table['cases'])
    memory = any(case.get('peak_memory_bytes') for table in tables for case in table['cases'])
    head = ['setting', 'case', 'ms', 'middle half', 'time / peer', 'middle half']
    head += ['time / eager'] * compiled + ['peak MiB', 'of roofline'] * memory
    lines = [row(head), '|---|---|' + '--:|' * (len(head) - 2)]
    for table in tables:
        for case in table['cases']:
            seconds, ratio, eager = case['seconds'], case['ratio'], case['eager_ratio']
            cells = [
                table['name'],
                case['name'],
                short(seconds['median'] * 1e3),
                f'{short(seconds["q25"] * 1e3)} - {short(seconds["q75"] * 1e3)}',
                f'**{ratio["median"]:.2f}**' if ratio else 'peer',
                f'{ratio["q25"]:.2f} - {ratio["q75"]:.2f}' if ratio else '',
            ]
            if compiled:
                cells.append(f'{eager["median"]:.2f}' if eager else '')
            if memory:
                peak, share = case.get('peak_memory_bytes'), case['roofline_share']
                cells.append('' if peak is None else f'{peak / MEBIBYTE:.0f}')
                cells.append('' if share is None else f'{share:.0%}')
            lines.append(row(cells))
    return lines


def throughput_rows(tables: list[dict]) -> list[str]:
    """Format images per second."""
    head = ['setting', 'case', 'images / s', "times the peer's", 'middle half']
    lines = [row(head), '|---|---|--:|--:|--:|']
    for table in tables:
        for case in table['cases']:
            ratio = case['ratio']
            speed = f'{table["images"] / case["seconds"]["median"]:.0f}'
            times = [f'**{1 / ratio["median"]:.2f}**'] if ratio else ['peer']
            times.append(f'{1 / ratio["q75"]:.2f} - {1 / ratio["q25"]:.2f}' if ratio else '')
            lines.append(row([table['name'], case['name'], speed, *times]))
    return lines


def training_rows(entries: list[dict]) -> list[str]:
    """Format whole trainings."""
    head = ['training', 'top-1 (%)', 'seconds', 'times faster', 'bound of the plan', 'share of it']
    lines = [row(head), '|---|' + '--:|' * (len(head) - 1)]
    for entry in entries:
        cells = [entry['name']]
        cells.append('' if entry['accuracy'] is None else f'{entry["accuracy"]:.2f}')
        cells.append(f'{sum(entry["seconds"]):.1f}')
        cells += [f'{entry[key]:.3f}' if entry.get(key) else '' for key in ('faster', 'bound')]
        cells.append(f'{entry["share"]:.0%}' if entry.get('share') else '')
        lines.append(row(cells))
    return lines


def exponent_rows(exponents: list[dict]) -> list[str]:
    """Format fitted exponents beside the theory."""
    head = ['growth with tokens', 'case', 'tokens', 'time', 'FLOPs', 'in theory', 'memory']
    lines = [row([*head, 'in theory']), '|---|---|' + '--:|' * 6]
    for fit in exponents:
        cells = [fit['series'], fit['name'], f'{fit["tokens"][0]} - {fit["tokens"][-1]}']
        for key, theory in (('time', None), ('flops', 0), ('memory', 1)):
            cells.append('' if fit[key] is None else f'{fit[key]:.2f}')
            if theory is not None:
                cells.append(str(fit['theory'][theory]))
        lines.append(row(cells))
    return lines


def fit_exponents(tables: list[dict]) -> list[dict]:
    """Fit exponents of time, counted FLOPs and peak memory in the number of tokens.

    Cases of one name in at least three tables of a series are fitted: a straight line through the
    logarithms.
    """
    points: dict[tuple[str, str], list[tuple[int, dict]]] = {}
    for table in tables:
        if table['tokens']:
            for case in table['cases']:
                points.setdefault((table['series'], case['name']), []).append(
                    (table['tokens'], case)
                )
    fits = []
    for (series, name), found in points.items():
        if len(found) < 3:
            continue
        tokens = [number for number, _ in found]
        values = {
            'time': [case['seconds']['median'] for _, case in found],
            'flops': [case['flops'] for _, case in found],
            'memory': [case.get('peak_memory_bytes') for _, case in found],
        }
        fit = {'series': series, 'name': name, 'tokens': tokens, 'theory': found[0][1]['theory']}
        for key, value in values.items():
            fit[key] = slope(tokens, value) if all(value) else None
        fits.append(fit)
    return fits


def slope(x: list[float], y: list[float]) -> float:
    """Fit y = a * x ** b; return b."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def summary(reports: dict[str, dict]) -> str:
    """Format the rows of `SUMMARY` that were measured, for the README of the project."""
    lines = [row(['setting', 'ours', 'peer', 'time over the peer']), '|---|---|---|--:|']
    machines = {}
    for group, setting, name in SUMMARY:
        for table in reports.get(group, {}).get('tables', []):
            for case in table['cases']:
                if (table['name'], case['name']) == (setting, name):
                    lines.append(
                        row([setting, name, case['peer'], f'{case["ratio"]["median"]:.2f}'])
                    )
                    machine = reports[group]['machine']
                    threads = f'{machine["threads"]} threads'
                    noise = quietness(reports[group])
                    machines[f'{machine["gpu"] or machine["cpu"]}, {threads}, {noise}'] = None
    measured = f'Measured on {"; ".join(machines)}. All tables: [benchmarks](benchmarks/README.md).'
    return '\n'.join([*lines, '', measured])


def row(cells: Iterable[str]) -> str:
    """Format a row of a table."""
    return f'| {" | ".join(cells)} |'


def short(value: float) -> str:
    """Format a number with three significant digits, without an exponent."""
    return f'{float(f"{value:.3g}"):g}'


# Pictures


def draw(group: str, report: dict, folder: Path) -> list[Path]:
    """Draw the growth of every series of a group with the number of tokens; return the files."""
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    fits = fit_exponents(report.get('tables', []))
    for number, series in enumerate(dict.fromkeys(fit['series'] for fit in fits)):
        path = folder / f'{group}{f"-{number + 1}" if number else ""}.svg'
        draw_series(report, series, [fit for fit in fits if fit['series'] == series], path)
        paths.append(path)
    return paths


def draw_series(report: dict, series: str, fits: list[dict], path: Path) -> None:
    """Draw time and peak memory of a series over the number of tokens."""
    tables = [table for table in report['tables'] if table['series'] == series]
    has_memory = any(fit['memory'] is not None for fit in fits)
    columns = 1 + has_memory
    figure, axes = pyplot.subplots(
        1, columns, figsize=(5 * columns, 4), layout='constrained', squeeze=False
    )
    times, memories = axes[0, 0], axes[0, -1]
    for fit in fits:
        cases = [c for table in tables for c in table['cases'] if c['name'] == fit['name']]
        exponent = f'{fit["name"]}: tokens^{fit["time"]:.2f}'
        milliseconds = [case['seconds']['median'] * 1e3 for case in cases]
        times.loglog(fit['tokens'], milliseconds, marker='o', label=exponent)
        if fit['memory'] is not None:
            peaks = [case['peak_memory_bytes'] / MEBIBYTE for case in cases]
            memories.loglog(fit['tokens'], peaks, marker='o')
    if has_memory:
        memories.set(xlabel='tokens', ylabel='MiB', title='peak memory')
    times.set(xlabel='tokens', ylabel='ms', title=f'{series}: time')
    times.legend(fontsize='small')
    figure.suptitle(report['machine']['gpu'] or report['machine']['cpu'])
    picture = StringIO()
    figure.savefig(picture, format='svg', metadata={'Date': None})
    pyplot.close(figure)
    lines = [line.rstrip() for line in picture.getvalue().splitlines()]
    with atomic_write(path) as partial:
        partial.write_text('\n'.join(lines) + '\n')
