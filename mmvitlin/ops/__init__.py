from mmvitlin.ops.fourier_crop import low_frequency_crop

__all__ = ['low_frequency_crop']
