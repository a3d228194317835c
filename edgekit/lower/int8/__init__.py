"""From a float program to an int8 one: ranges, scales, equal integers, what stays in float."""
