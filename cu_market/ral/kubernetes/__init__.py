"""Provider ``kubernetes``: node pools of clusters, sold by the size that a step asks for."""
