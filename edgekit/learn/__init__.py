"""The path that makes a small network good: recipe -> trained, distilled, pruned, quantised."""
