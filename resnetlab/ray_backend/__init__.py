"""Everything that knows Ray: the cluster, its workers, and what runs on them."""
