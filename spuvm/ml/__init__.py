"""Models on federated data. Names load when they are used: a party's worker needs numpy alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "FLogisticRegressionMix": "spuvm.ml.mix",
    "FLogisticRegressionVertical": "spuvm.ml.vertical",
    "SSRegression": "spuvm.ml.regression",
}

__all__ = ["FLogisticRegressionMix", "FLogisticRegressionVertical", "SSRegression"]

if TYPE_CHECKING:
    from spuvm.ml.mix import FLogisticRegressionMix as FLogisticRegressionMix
    from spuvm.ml.regression import SSRegression as SSRegression
    from spuvm.ml.vertical import FLogisticRegressionVertical as FLogisticRegressionVertical


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spuvm.ml' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
