# Token expansion at the rates of its paper for EfficientTrain, a third of 300 epochs each. Leaf
# configs put it into their custom_hooks.
token_expansion = dict(
    type='mmvitlin.TokenExpansionHook',
    expansion_step=(0, 100, 200),
    keep_rate=(0.6, 0.8, 1.0),
    initialization_keep_rate=0.3,
)
