"""Host: recipes, data, and the loops that train and distil checkpoints (torch)."""
