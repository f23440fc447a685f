from mmvitlin.models.detectors.yolos_head import YOLOSHead

__all__ = ['YOLOSHead']
