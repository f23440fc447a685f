from mmvitlin.datasets.digits import Digits

__all__ = ['Digits']
