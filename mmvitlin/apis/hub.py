"""Registration of the package's classifiers in mmpretrain's model hub."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from mmpretrain.apis import ModelHub

from mmvitlin.apis.model_index import CLASSIFICATION, index_folder, read_index


def enter_hub() -> None:
    """Add every classifier of the model index that the hub does not have yet.

    After that `mmpretrain.list_models`, `get_model`, `inference_model` and the inferencers know
    their names. Detectors and segmentors stay out, because mmpretrain cannot build them.
    """
    models = [
        {key: value for key, value in entry.content.items() if key != 'In Collection'}
        for entry in read_index().values()
        if CLASSIFICATION in entry.tasks and not ModelHub.has(entry.name)
    ]
    if not models:
        return
    with TemporaryDirectory() as folder:
        index = Path(folder, 'classifiers.json')
        index.write_text(json.dumps({'Models': models}))
        ModelHub.register_model_index(index, config_prefix=index_folder())
