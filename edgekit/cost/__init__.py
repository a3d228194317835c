"""What a network costs: its layers' multiply-accumulates, its memory, what one output sees."""
