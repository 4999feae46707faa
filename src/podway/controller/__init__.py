"""What must run once a cluster, inside whichever agent holds the Lease object. Read ``lease.py`` first.

``lease`` (who acts), ``reflectors`` (who reflects routes, and the change from one shape of sessions to
another) and ``garbage`` (blocks that are nobody's) are pure machines ``step(state, …, now) → (state, …,
deadline)``; ``controller`` reads and writes the store for them. Imports the model, the store and the plan.
"""
