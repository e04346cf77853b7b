"""The table that the files of this folder fill."""

from spuvm.protocol.base import Table

TABLE = Table()
