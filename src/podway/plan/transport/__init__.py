"""How nodes carry each other's pods: one file per transport."""
