"""How well codes recover known factors: MIG, SAP, DCI and others, on plain arrays."""
