"""The pyramid of LV-ViT's segmentors (arXiv 2104.10858)."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvitlin.checks import positive_int
from mmvitlin.layers.map_norm import build_map_norm
from mmvitlin.registry import MODELS, register

BATCH_NORM = dict(type='BN')
SCALE_FACTORS = (4, 2, 1, 1)  # of the four maps


def _convolution(conv: nn.Module, channels: int, norm_cfg: dict | None) -> list[nn.Module]:
    return [conv, build_map_norm(norm_cfg, channels), nn.ReLU(inplace=True)]


@register(MODELS)
class SideLayers(BaseModule):
    """The side layers of LV-ViT's segmentors: four maps of a plain ViT become a pyramid.

    Of four maps of stride s the first is enlarged to s/4 and the second to s/2, each by one
    deconvolution; the others keep s. A 1 x 1 convolution follows for each map. Every convolution
    has a norm and a ReLU, and no bias.

    Args:
        in_channels: channels of each map and of the first three outputs.
        out_channels: channels of the last output.
        norm_cfg: as in `SimpleFeaturePyramid`.
        init_cfg: as in MMEngine; by default torch's initialisation, as in the original.

    Forward:
        four maps (B, in_channels, H, W) -> a tuple of maps (B, in_channels, 4H, 4W),
        (B, in_channels, 2H, 2W), (B, in_channels, H, W) and (B, out_channels, H, W).

    Raises:
        ValueError: an argument is not a positive number, or the number of maps is not four.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 2048,
        norm_cfg: dict | None = BATCH_NORM,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        positive_int('in_channels', in_channels)
        positive_int('out_channels', out_channels)
        self.levels = nn.ModuleList()
        for factor, width in zip(SCALE_FACTORS, (*(in_channels,) * 3, out_channels)):
            enlarge = nn.ConvTranspose2d(in_channels, in_channels, factor, factor, bias=False)
            self.levels.append(
                nn.Sequential(
                    *(_convolution(enlarge, in_channels, norm_cfg) if factor > 1 else ()),
                    *_convolution(nn.Conv2d(in_channels, width, 1, bias=False), width, norm_cfg),
                )
            )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(inputs) != len(self.levels):
            raise ValueError(
                f'{type(self).__name__} takes {len(self.levels)} maps, got {len(inputs)}: give the '
                "backbone out_type='featmap' and as many out_indices"
            )
        return tuple(level(x) for level, x in zip(self.levels, inputs))
