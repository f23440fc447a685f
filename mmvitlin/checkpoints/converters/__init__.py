"""Converters of original checkpoints, one file per system."""

from mmvitlin.checkpoints.converters.converter import Converter
from mmvitlin.checkpoints.converters.deit import CONVERTER as DEIT
from mmvitlin.checkpoints.converters.l2vit import CONVERTER as L2VIT
from mmvitlin.checkpoints.converters.lion import CONVERTER as LION
from mmvitlin.checkpoints.converters.lvvit import CONVERTER as LVVIT
from mmvitlin.checkpoints.converters.vit_llama import CONVERTER as VIT_LLAMA
from mmvitlin.checkpoints.converters.yolos import CONVERTER as YOLOS

CONVERTERS: dict[str, Converter] = {
    converter.name: converter for converter in (DEIT, L2VIT, LION, LVVIT, VIT_LLAMA, YOLOS)
}

__all__ = ['CONVERTERS', 'Converter']
