from mmvitlin.engine.optim_wrappers.mixed_precision import MixedPrecisionOptimWrapper

__all__ = ['MixedPrecisionOptimWrapper']
