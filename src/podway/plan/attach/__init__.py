"""How a pod is attached to its node: one file per kind."""
