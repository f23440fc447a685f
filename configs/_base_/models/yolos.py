# YOLOS on COCO: a plain ViT with detection tokens, DETR's matching and losses. Images are padded to
# the largest of their batch, and padded patches take part.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmvitlin.YOLOSViT', vit=dict(type='mmpretrain.VisionTransformer'), num_det_tokens=100
    ),
    bbox_head=dict(type='mmvitlin.YOLOSHead', num_classes=80),
)
