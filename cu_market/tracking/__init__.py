"""Versions of models: JSON files, promoted by alias, mirrored to MLflow when it is there."""
