"""One optimizer step, one evaluation, optimizers and the learning-rate schedule."""
