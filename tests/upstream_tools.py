"""Run every tool of mmpretrain, mmdetection and mmsegmentation on a quickstart, and say what works.

python tests/upstream_tools.py [--hosts mmdet ...] [--only TEXT] [--docs]

Each tool is a program of its own, with a time limit, on a quickstart shortened to seconds and the
checkpoint, log and predictions of the host's own train.py and test.py. --docs writes the rows into
the table of docs/reference/upstream-tools.md. Some tools want packages that this project does not
need: those that are found on PYTHONPATH are used, the others are named in the table.

    pip install --no-deps --target EXTRAS seaborn pandas 'grad-cam<1.5' ttach torch-model-archiver
    PYTHONPATH=EXTRAS python tests/upstream_tools.py --docs
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs/reference/upstream-tools.md'
MARKS = ('<!-- upstream tools -->', '<!-- /upstream tools -->')
HEAD = ('| host | tool | on our quickstart | | run on |', '|---|---|---|---|---|')
ROW = re.compile(r'\| (\w+) \| `(.+?)` \|.*')
LIMIT = 120  # seconds for a tool
OTHER = 'not run: '
OTHER_MODELS = 'for checkpoints of other models'
OTHER_DATA = 'for files of other data sets'
IMAGE = ROOT / 'docs/digit.png'
SCENES = 8  # to train on, and to test on


@dataclass
class Tool:
    """A tool's command line.

    Args:
        arguments: with the names of `Workplace.fill` in braces.
        needs: package that the tool imports and nothing else here does.
        note: what to know, whatever comes out.
    """

    arguments: str
    needs: str = ''
    note: str = ''


@dataclass
class HostTools:
    """A host's quickstart and tools: path below its tools/ -> command line, or why it is not run.

    The first two are train.py and test.py, which make the files that the others read. A reason may
    stand at a folder.
    """

    config: str
    options: dict
    tools: dict[str, Tool | str]
    checkpoint: str = 'epoch_1.pth'


GPU = 'starts processes with NCCL: needs GPUs; tools/dist_train.sh of ours starts them on CPUs too'
TRANSPOSED = 'draws on a transposed array, which OpenCV refuses'
GROUNDING = 'for detectors that read text'
SMALL = {
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.logger.interval': 1,
}
LAUNCHERS = {
    'slurm_train.sh': 'needs a Slurm cluster',
    'slurm_test.sh': 'needs a Slurm cluster',
    'dist_train.sh': Tool('{config} 2 --work-dir {out}', note=GPU),
    'dist_test.sh': Tool('{config} {checkpoint} 2 --work-dir {out}', note=GPU),
}

HOSTS = {
    'mmpretrain': HostTools(
        'configs/quickstart/l2vit-micro_1xb64_digits.py',
        {**SMALL, 'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 128},
        {
            'train.py': Tool('{config} --work-dir {work}'),
            'test.py': Tool(
                '{config} {checkpoint} --work-dir {out} --out {results} --out-item pred '
                '--show-dir {out}/pictures --interval 100'
            ),
            **LAUNCHERS,
            'analysis_tools/analyze_logs.py': Tool(
                'plot_curve {log} --keys loss --out {out}/loss.png', 'seaborn'
            ),
            'analysis_tools/analyze_results.py': Tool('{config} {results} --out-dir {out}'),
            'analysis_tools/confusion_matrix.py': Tool(
                '{config} {checkpoint} --show-path {out}/matrix.png'
            ),
            'analysis_tools/eval_metric.py': Tool('{results} --metric type=Accuracy topk=1'),
            'analysis_tools/get_flops.py': Tool(
                '{config} --shape 32',
                note='counts no softmax attention; ours does',
            ),
            'analysis_tools/shape_bias.py': OTHER_DATA,
            'analysis_tools/utils.py': 'a module of shape_bias.py',
            'benchmarks': 'needs OpenMIM and a Slurm cluster or GPUs',
            'dataset_converters': OTHER_DATA,
            'kfold-cross-valid.py': Tool('{config} --num-splits 2 --work-dir {out}'),
            'misc/print_config.py': Tool('{config}'),
            'misc/verify_dataset.py': Tool('{config} --out-path {out}/broken.log'),
            'model_converters/publish_model.py': Tool('{checkpoint} {out}/published.pth'),
            'model_converters/reparameterize_model.py': Tool(
                '{config} {checkpoint} {out}/deployed.pth'
            ),
            'model_converters': OTHER_MODELS,
            'torchserve/mmpretrain2torchserve.py': Tool(
                '{config} {checkpoint} --output-folder {out}', 'model_archiver'
            ),
            'torchserve': 'run by a TorchServe server',
            'visualization/browse_dataset.py': Tool(
                '{config} --not-show --output-dir {out} --show-number 4'
            ),
            'visualization/vis_cam.py': Tool(
                f'{IMAGE} {{files}} {{checkpoint}} --save-path {{out}}/cam.png '
                '--target-layers backbone.stages.1.1.concentration.bn',
                'pytorch_grad_cam',
                'layers that work: [look inside](../how-to/look-inside.md); grad-cam below 1.5',
            ),
            'visualization/vis_scheduler.py': Tool(
                '{config} --not-show --save-path {out}/lr.png', 'seaborn'
            ),
            'visualization/vis_tsne.py': Tool(
                '{config} --checkpoint {checkpoint} --work-dir {out} --vis-stage backbone'
            ),
        },
    ),
    'mmdet': HostTools(
        'configs/quickstart/retinanet_l2vit-micro_fpn_digit-scenes.py',
        # A detector after one step is sure of nothing: score_thr 0 gives the tools boxes.
        {**SMALL, 'train_cfg.max_epochs': 1, 'model.test_cfg.score_thr': 0.0},
        {
            'train.py': Tool('{config} --work-dir {work}'),
            'test.py': Tool(
                '{config} {checkpoint} --work-dir {out} --out {results} --show-dir {out}/pictures'
            ),
            **LAUNCHERS,
            'test_tracking.py': 'for trackers',
            'dist_test_tracking.sh': 'for trackers',
            'slurm_test_tracking.sh': 'for trackers',
            'analysis_tools/analyze_logs.py': Tool(
                'plot_curve {log} --keys loss --out {out}/loss.png', 'seaborn'
            ),
            'analysis_tools/analyze_results.py': Tool(
                '{files} {results} {out} --topk 2',
                note='with a LoadImageFromFile in the training pipeline too, which it looks for',
            ),
            'analysis_tools/benchmark.py': Tool(
                '{config} --checkpoint {checkpoint} --task inference --max-iter 8 --work-dir {out}',
                note='needs a GPU',
            ),
            'analysis_tools/browse_dataset.py': Tool('{config} --not-show --output-dir {out}'),
            'analysis_tools/browse_grounding_dataset.py': GROUNDING,
            'analysis_tools/browse_grounding_raw.py': GROUNDING,
            'analysis_tools/coco_error_analysis.py': OTHER_DATA,
            'analysis_tools/coco_occluded_separated_recall.py': OTHER_DATA,
            'analysis_tools/confusion_matrix.py': Tool('{config} {results} {out}'),
            'analysis_tools/eval_metric.py': Tool('{config} {results}'),
            'analysis_tools/fuse_results.py': 'for several files of COCO predictions',
            'analysis_tools/get_flops.py': Tool('{config} --num-images 2'),
            'analysis_tools/mot': 'for trackers',
            'analysis_tools/optimize_anchors.py': "for YOLOv3's anchors",
            'analysis_tools/robustness_eval.py': 'reads what test_robustness.py writes',
            'analysis_tools/test_robustness.py': Tool(
                '{config} {checkpoint} --out {out}/robustness.pkl --work-dir {out} '
                '--corruptions gaussian_noise --severities 0 1',
                'imagecorruptions',
            ),
            'dataset_converters': OTHER_DATA,
            'deployment/mmdet2torchserve.py': Tool(
                '{config} {checkpoint} --output-folder {out}', 'model_archiver'
            ),
            'deployment': 'run by a TorchServe server',
            'misc/print_config.py': Tool('{config}'),
            'misc': OTHER_DATA,
            'model_converters/publish_model.py': Tool('{checkpoint} {out}/published.pth'),
            'model_converters': OTHER_MODELS,
        },
    ),
    'mmseg': HostTools(
        'configs/quickstart/l2vit-micro_upernet_digit-scenes.py',
        {**SMALL, 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2},
        {
            'train.py': Tool('{config} --work-dir {work}'),
            'test.py': Tool(
                '{config} {checkpoint} --work-dir {out} --out {results} --show-dir {out}/pictures'
            ),
            **LAUNCHERS,
            'analysis_tools/analyze_logs.py': Tool(
                '{log} --keys loss --out {out}/loss.png', 'seaborn'
            ),
            'analysis_tools/benchmark.py': Tool('{config} {checkpoint} --work-dir {out}'),
            'analysis_tools/browse_dataset.py': Tool(
                '{config} --not-show --output-dir {out}', note=TRANSPOSED
            ),
            'analysis_tools/confusion_matrix.py': Tool('{config} {results} {out}'),
            'analysis_tools/get_flops.py': Tool('{config} --shape 128 128', note='ours counts'),
            'analysis_tools/visualization_cam.py': Tool(
                f'{IMAGE} {{config}} {{checkpoint}} --target-layers backbone.norm2 '
                '--device cpu --category-index 3 --out-file {out}/a.png --cam-file {out}/b.png',
                'pytorch_grad_cam',
                'grad-cam below 1.5',
            ),
            'dataset_converters': OTHER_DATA,
            'deployment/pytorch2torchscript.py': Tool(
                '{config} --checkpoint {checkpoint} --shape 128 128 --output-file {out}/model.pt'
            ),
            'misc/browse_dataset.py': Tool(
                '{config} --not-show --output-dir {out}', note=TRANSPOSED
            ),
            'misc/print_config.py': Tool('{config}'),
            'misc/publish_model.py': Tool('{checkpoint} {out}/published.pth'),
            'model_converters': OTHER_MODELS,
            'torchserve/mmseg2torchserve.py': Tool(
                '{config} {checkpoint} --output-folder {out}', 'model_archiver'
            ),
            'torchserve': 'run by a TorchServe server',
        },
        checkpoint='iter_2.pth',
    ),
}


@dataclass
class Workplace:
    """The folder of a host's runs, and the files that its tools read."""

    host: str
    folder: Path
    tools: Path = field(init=False)

    def __post_init__(self):
        self.tools = Path(import_module(self.host).__file__).parent / '.mim/tools'
        spec = HOSTS[self.host]
        cfg = Config.fromfile(ROOT / spec.config)
        cfg.merge_from_dict(spec.options)
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg[name].dataset.type == 'mmvitlin.DigitScenes':
                cfg[name].dataset.num_scenes = SCENES
            if 'cache_dir' in cfg[name].dataset:
                cfg[name].dataset.cache_dir = str(self.folder / 'scenes')
        cfg.dump(self.folder / 'config.py')
        load = dict(type='LoadImageFromFile')  # digits and the scenes to train on have no files
        if self.host == 'mmpretrain':
            cfg.test_dataloader.dataset.pipeline.insert(0, load)
        if self.host == 'mmdet':
            cfg.train_dataloader.dataset.pipeline.insert(0, load)
        cfg.dump(self.folder / 'files.py')

    def fill(self, arguments: str, out: Path) -> list[str]:
        """Return the arguments with the places of the files."""
        work = self.folder / 'work'
        logs = sorted(work.glob('*/vis_data/scalars.json'))
        return arguments.format(
            config=self.folder / 'config.py',
            files=self.folder / 'files.py',
            work=work,
            out=out,
            checkpoint=work / HOSTS[self.host].checkpoint,
            results=self.folder / ('results' if self.host == 'mmseg' else 'results.pkl'),
            log=logs[-1] if logs else work / 'scalars.json',
        ).split()

    def run(self, name: str, tool: Tool) -> str:
        """Return the outcome of a tool: that it works, or the line that says why not."""
        if tool.needs and find_spec(tool.needs) is None:
            return f'{OTHER}needs {tool.needs}'
        out = self.folder / 'out' / name.replace('/', '-')
        out.mkdir(parents=True)
        interpreter = ['bash'] if name.endswith('.sh') else [sys.executable]
        command = [*interpreter, str(self.tools / name), *self.fill(tool.arguments, out)]
        variables = {
            **os.environ,
            'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
            'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
            'MPLBACKEND': 'Agg',
        }
        log = out / 'said.txt'
        with log.open('w') as file:
            try:
                code = subprocess.run(
                    command, cwd=out, env=variables, stdout=file, stderr=file, timeout=LIMIT
                ).returncode
            except subprocess.TimeoutExpired:
                return f'does not end in {LIMIT} s'
        said = log.read_text(errors='replace')
        if code == 0:
            return 'works, with ' + tool.needs if tool.needs else 'works'
        return explain(said)


def explain(said: str) -> str:
    """Return the error of a failed program, and the innermost line of ours or of OpenMMLab's."""
    errors = re.findall(r'^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*$', said, re.M)
    lines = re.findall(r'File "(.*?)", line (\d+)', said)
    named = [
        (re.sub(r'.*/(?:site-packages/|\.mim/|(?=mmvitlin/))', '', path), number)
        for path, number in lines
        if re.search(r'/(mm\w+|tools)/', path)
    ]
    error = (errors[:1] or said.strip().splitlines() or ['no output'])[-1][:110]
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '(.+)'", error)
    if missing:
        return f'{OTHER}needs {missing.group(1)}'
    place = ':'.join(named[-1]) if named else 'no line'
    owner = 'ours' if any('mmvitlin' in path for path, _ in named) else 'theirs'
    return f'fails, {owner}: `{error.replace("|", "/").replace("`", "")}` ({place})'


def find_key(host: HostTools, name: str) -> str:
    """Return the entry of a file: its path or one of its folders."""
    path = Path(name)
    for key in (name, *(folder.as_posix() for folder in path.parents)):
        if key in host.tools:
            return key
    raise KeyError(f'{name} is not in the table')


def write_rows(rows: dict[tuple[str, str], str]) -> None:
    """Put the rows of these hosts and tools into the table, in the order of `HOSTS`."""
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    table, _, after = rest.partition(MARKS[1])
    old = {found.groups(): found.string for found in map(ROW.match, table.splitlines()) if found}
    rows = old | rows
    order = [(host, tool) for host, spec in HOSTS.items() for tool in spec.tools]
    body = [MARKS[0], *HEAD, *(rows[key] for key in order if key in rows), MARKS[1]]
    PAGE.write_text(before + '\n'.join(body) + after)


def main() -> None:
    """Run the tools and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--hosts', nargs='+', choices=HOSTS, default=list(HOSTS))
    parser.add_argument('--only', default='', help='tools with this text, and train.py and test.py')
    parser.add_argument('--docs', action='store_true', help=f'write {PAGE.relative_to(ROOT)}')
    parser.add_argument('--keep', type=Path, help='keep what the tools wrote in this folder')
    args = parser.parse_args()
    rows = {}
    for name in args.hosts:
        host = HOSTS[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.keep / name if args.keep else Path(temporary)
            if args.keep:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            place = Workplace(name, folder)
            paths = [*place.tools.rglob('*.py'), *place.tools.rglob('*.sh')]
            files = Counter(
                find_key(host, path.relative_to(place.tools).as_posix()) for path in paths
            )
            for tool, entry in host.tools.items():
                if args.only not in tool and tool not in ('train.py', 'test.py'):
                    continue
                if isinstance(entry, str):
                    outcome, note = OTHER + entry, f'{files[tool]} files' * (files[tool] > 1)
                else:
                    outcome, note = place.run(tool, entry), entry.note
                rows[name, tool] = f'| {name} | `{tool}` | {outcome} | {note} | {date.today()} |'
                print(rows[name, tool], flush=True)
    if args.docs:
        write_rows(rows)


if __name__ == '__main__':
    main()
