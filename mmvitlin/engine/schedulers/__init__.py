from mmvitlin.engine.schedulers.warmup_cosine import WarmupCosineLR

__all__ = ['WarmupCosineLR']
