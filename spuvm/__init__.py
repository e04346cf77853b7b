"""spuvm: secure three-party computation for people who write JAX.

Public names are loaded when they are first used: `import spuvm` imports neither JAX nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Config": "spuvm.devices.config",
    "HEU": "spuvm.devices.heu",
    "HEUObject": "spuvm.devices.heuobject",
    "PYU": "spuvm.devices.pyu",
    "PYUObject": "spuvm.devices.pyu",
    "SPU": "spuvm.devices.spu",
    "SPUObject": "spuvm.devices.spu",
    "assume_range": "spuvm.compiler",
    "bounded_while": "spuvm.compiler",
    "disclosed": "spuvm.devices.reporting",
    "init": "spuvm.devices.session",
    "proxy": "spuvm.devices.proxy",
    "report": "spuvm.devices.picture",
    "reveal": "spuvm.devices.moves",
    "shutdown": "spuvm.devices.session",
    "simulate": "spuvm.devices.simulate",
    "to": "spuvm.devices.moves",
    "wait": "spuvm.devices.moves",
}
_MODULES = ("aggregation", "data", "errors", "functions", "ml", "random")

__all__ = [
    "HEU",
    "PYU",
    "SPU",
    "Config",
    "HEUObject",
    "PYUObject",
    "SPUObject",
    "aggregation",
    "assume_range",
    "bounded_while",
    "data",
    "disclosed",
    "errors",
    "functions",
    "init",
    "ml",
    "proxy",
    "random",
    "report",
    "reveal",
    "shutdown",
    "simulate",
    "to",
    "wait",
]

if TYPE_CHECKING:
    from spuvm import aggregation as aggregation
    from spuvm import data as data
    from spuvm import errors as errors
    from spuvm import functions as functions
    from spuvm import ml as ml
    from spuvm import random as random
    from spuvm.compiler import assume_range as assume_range
    from spuvm.compiler import bounded_while as bounded_while
    from spuvm.devices.config import Config as Config
    from spuvm.devices.heu import HEU as HEU
    from spuvm.devices.heuobject import HEUObject as HEUObject
    from spuvm.devices.moves import reveal as reveal
    from spuvm.devices.moves import to as to
    from spuvm.devices.moves import wait as wait
    from spuvm.devices.picture import report as report
    from spuvm.devices.proxy import proxy as proxy
    from spuvm.devices.pyu import PYU as PYU
    from spuvm.devices.pyu import PYUObject as PYUObject
    from spuvm.devices.reporting import disclosed as disclosed
    from spuvm.devices.session import init as init
    from spuvm.devices.session import shutdown as shutdown
    from spuvm.devices.simulate import simulate as simulate
    from spuvm.devices.spu import SPU as SPU
    from spuvm.devices.spu import SPUObject as SPUObject


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"spuvm.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'spuvm' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
