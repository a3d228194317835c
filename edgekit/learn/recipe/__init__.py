"""Recipes: TOML -> one tree of frozen values; an unknown key is refused, naming the valid ones."""
