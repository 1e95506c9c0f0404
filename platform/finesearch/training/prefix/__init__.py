"""Outputs of frozen bottom layers, computed once a node and reused by every epoch, evaluation and trial.

depth     how many of a model's lowest blocks do not change, and what stands in the way of more
bottom    the blocks of a model: what they return, and how far down a pass need not go
passes    one pass over a split that yields the outputs of several blocks
entries   Arrow files on the node's disk: their keys, their budget, who may delete them
rows      reading such a file, and the same in the memory of a GPU
reader    a batch's outputs from there, and the rows that are missing computed as they come
cache     one trial's view of all this: what the training loop and the evaluation call

A *cut* is a number of blocks from the bottom, in the order in which they run: cut 4 is what the fourth block returns.
What a trial gets from here equals what its own blocks would have computed, but for the rounding that another width of
padding brings about.
"""
