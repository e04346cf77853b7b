"""Models on federated data."""

from spuvm.ml.mix import FLogisticRegressionMix
from spuvm.ml.regression import SSRegression
from spuvm.ml.vertical import FLogisticRegressionVertical

__all__ = ["FLogisticRegressionMix", "FLogisticRegressionVertical", "SSRegression"]
