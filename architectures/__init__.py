"""Reference architectures in plain PyTorch, one file a family; imports nothing of edgekit."""
