"""The parity gate: what each hop is run on, compared by, held to, and drawn with."""
