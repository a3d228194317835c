"""Labelled images: where they come from, what is done to them, and in which batches they go."""
