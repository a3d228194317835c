"""From a camera to the loop: threads, processes, hand-over, and cameras that come back."""
