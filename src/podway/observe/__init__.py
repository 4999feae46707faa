"""Status, doctor, matrix: what a person wants to see. Imports agent and below."""
