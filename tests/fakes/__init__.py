"""Stand-ins for what tests cannot have: one per seam, each speaking the real protocol."""
