"""Training and evaluation steps, optimizers (AdamW, SGD, Adafactor, Lion) and the learning-rate schedule."""
