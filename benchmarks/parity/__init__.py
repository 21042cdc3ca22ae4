"""Who shows the tree that layers mean: snapcore's backends and others, on the same images."""
