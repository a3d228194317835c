"""Training for int8, by the quantiser that lowers."""
