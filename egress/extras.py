"""Which packages come with which extra, for the message when one of them is not installed."""

from __future__ import annotations

from egress.errors import UsageError

EXTRAS = {
    "numba": "capture",
    "zstandard": "capture",
    "cryptography": "capture",
    "chdb": "store",
    "clickhouse_connect": "store",
    "river": "detect",
    "pyshark": "dissect",
    "kafka": "kafka",
    "google": "goflow",
    "crc32c": "kafka",
    "prometheus_client": "kafka",
}
"""Import name to extra; those of pyproject.toml."""


def missing(error: ModuleNotFoundError) -> UsageError | None:
    """What to install, where what is missing belongs to an extra; None for everything else, which is a defect."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return UsageError(f"{package} is not installed, and this command needs it: pip install 'egress[{extra}]'")
