"""The only importer of Dagster's private modules. Each use says why it is needed."""
