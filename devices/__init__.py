"""Devices: where plaintext, shares and the world meet."""

if __name__ != "spuvm.devices":
    raise ImportError("import this package as spuvm.devices")
