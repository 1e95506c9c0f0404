"""Ray Tune's interfaces over the search controller: searcher, scheduler, trainable."""
