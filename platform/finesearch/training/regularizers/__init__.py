"""Regularizers that act on the model or its weights during training: one file per method.

regularizer          the interface of every method
active_regularizers  the methods of one trial, called by the training loop
l2sp                 L2-SP: decay towards the pretrained weights
layer_drop           LayerDrop: skips blocks at random
mixout               Mixout: replaces weights by pretrained ones at random
neftune              NEFTune: noise on the input embeddings
rdrop                R-Drop: KL divergence between two passes with different dropout
weight_average       averaged weights, for ``ema`` and ``swa``
ema                  exponential moving average
swa                  stochastic weight averaging
"""
