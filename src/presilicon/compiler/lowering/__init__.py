"""From the canonical float graph and the ranges of its values to steps of integers and fp32 bits."""
