"""Fewer channels: which belong together, which matter least, and the network without them."""
