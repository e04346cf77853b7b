"""Ring kernels: numba loops on flat unsigned arrays that know nothing of parties."""

if __name__ != "spuvm.kernels":
    raise ImportError("import this package as spuvm.kernels")
