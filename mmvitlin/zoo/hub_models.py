"""The index's classifiers in the form of mmpretrain's model hub."""

import warnings

from mmengine.config import Config
from modelindex.models.Model import Model

from mmvitlin.zoo.model_index import (
    CLASSIFICATION,
    find_entry,
    how_to_get_weights,
    nearest_names,
    read_index,
)


class HubModel(Model):
    """A model without published weights.

    mmpretrain looks at `weights` when it is asked for `pretrained=True`, which its inferencers do
    of themselves. It finds none, and goes on with random weights; the warning says how to get some.
    """

    @property
    def weights(self) -> None:
        config = self.config
        if isinstance(config, str):
            config = Config.fromfile(config)
        warnings.warn(
            f'{how_to_get_weights(self.name, config.model.backbone.type)}, as `pretrained`. '
            'The weights are random now.',
            stacklevel=3,
        )


class HubNames(dict):
    """The hub's models by name, where a name that is nearly one of ours gets the nearest of ours.

    Of any other name that it lacks, the hub says what it always says.
    """

    def get(self, name: str, default: Model | None = None) -> Model | None:
        if name not in self and nearest_names(name, self)[0] in read_index():
            find_entry(name, CLASSIFICATION)  # raises: there is none, or it is no classifier
        return super().get(name, default)


def hub_models() -> list[HubModel]:
    """The classifiers of the index; the hub reads their configs when they are built."""
    return [
        HubModel(
            name=entry.name,
            metadata=entry.content['Metadata'],
            results=entry.content['Results'],
            config=str(entry.config),
            in_collection=entry.content['In Collection'],
        )
        for entry in read_index().values()
        if CLASSIFICATION in entry.tasks
    ]
