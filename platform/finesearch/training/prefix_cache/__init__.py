"""Outputs of frozen bottom layers, computed once a node and reused by every epoch, evaluation and trial.

cacheable_depth    how many of a model's lowest blocks do not change, and what stands in the way of more
block_outputs      the blocks of a model: what they return, and how far down a pass need not go
embedding_bypass   what runs before the blocks, and need not run either
self_test          whether a model takes outputs that are given: tried once for each shape of it
forward            one pass over some rows that yields the outputs of several blocks
cache_request      what a trial asks for of a split, and the parts in which it is computed
disk_entries       Arrow files on the node's disk: their keys, their budget, who may delete them
cached_rows        reading such files, and the same in the memory of a GPU
cache_stores       finds what is asked for, or computes it: on disk, or in memory
cached_outputs     what is kept of one split, put into a trial's model batch by batch
cache_session      what the trials of one process share
open_cache         one trial's view of all this: what the training loop and the evaluation call

A *depth* is a number of blocks from the bottom, in the order in which they run: depth 4 is what the fourth block
returns. What a trial gets from here equals what its own blocks would have computed, but for the rounding that another
width of padding brings about.
"""
