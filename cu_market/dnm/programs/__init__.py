"""Linear and integer programs: as numbers, as PuLP's rows, and who solves them."""
