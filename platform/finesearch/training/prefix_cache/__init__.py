"""Prefix cache: outputs of frozen bottom layers, computed once per node, reused by epochs, evaluations and trials.

cacheable_depth    how many of a model's lowest blocks stay frozen, and why not more
block_outputs      captures the outputs of a model's blocks, and injects cached outputs in their place
embedding_bypass   modules before the blocks that can be skipped as well
self_test          verifies that a model computes the same from injected outputs: once for each model structure
forward            one forward pass that returns the outputs of several blocks
cache_request      a trial's request for one split, and the parts in which it is computed
disk_entries       Arrow files on the node's disk: keys, budget, locks, eviction
cached_rows        rows of cached outputs: in such files, or in GPU memory
cache_stores       find or compute the requested outputs: on disk, or in memory
cached_outputs     the cached outputs of one split, injected into a trial's model batch by batch
cache_session      state shared by the trials of one process
open_cache         one trial's view of the cache, called by the training loop and the evaluation

A *depth* is a number of blocks from the bottom, in the order in which they run: depth 4 is the output of the fourth
block. Cached outputs equal what the trial's own blocks would have computed, except for rounding differences due to
another padding width.
"""
