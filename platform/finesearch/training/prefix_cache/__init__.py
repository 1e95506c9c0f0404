"""Outputs of frozen bottom layers, computed once a node and reused by every epoch, evaluation and trial.

depth     how many of a model's lowest blocks do not change, and what stands in the way of more
bottom    the blocks of a model: what they return, and how far down a pass need not go
entrance  what runs before the blocks, and need not run either
check     whether a model takes outputs that are given: tried once for each shape of it
passes    one pass over some rows that yields the outputs of several blocks
requests    what a trial asks for of a split, and the parts in which it is computed
entries   Arrow files on the node's disk: their keys, their budget, who may delete them
rows      reading such files, and the same in the memory of a GPU
stores    finds what is asked for, or computes it: on disk, or in memory
cache     one trial's view of all this: what the training loop and the evaluation call

A *depth* is a number of blocks from the bottom, in the order in which they run: depth 4 is what the fourth block
returns. What a trial gets from here equals what its own blocks would have computed, but for the rounding that another
width of padding brings about.
"""
