"""From a trained network to a proven artifact: export, quantise, compile, compare, bundle (torch)."""
