import pytest

from spuvm.paillier.keys import SecretKey


@pytest.fixture(scope="session")
def small():
    """A key that protects nothing, for quick tests."""
    return SecretKey.generate(512, "insecure")


@pytest.fixture(scope="session")
def other():
    return SecretKey.generate(512, "insecure")


@pytest.fixture(scope="session")
def large():
    """A key of the default size."""
    return SecretKey.generate(2048)
