"""ABY3-style replicated secret sharing among three parties."""
