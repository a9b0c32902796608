"""Which model sizes a code location's steps: trained, evaluated, compared, published as JSON."""
