"""Whether a machine, or every node of a cluster, has what a run needs."""
