"""What to do where TLS to a server fails for a reason that a URL's options can put right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

# Of OpenSSL's X509_V_ERR_*, `man X509_STORE_CTX_get_error`.
_WRONG_TIME: Final = (9, 10)
_WRONG_HOST: Final = (62, 64)


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How a kind of URL spells its options."""

    authorities: str
    """The file of the authorities that sign servers' certificates."""
    without_host: str
    """What leaves out the comparison of the host."""
    without_check: str
    """What accepts any certificate."""
    files: tuple[str, ...]
    """All options that name files."""


POSTGRES: Final = TlsOptions(
    authorities="sslrootcert",
    without_host="sslmode=verify-ca",
    without_check="sslmode=require",
    files=("sslrootcert", "sslcert", "sslkey", "sslcrl"),
)
REDIS: Final = TlsOptions(
    authorities="ssl_ca_certs",
    without_host="ssl_check_hostname=false",
    without_check="ssl_cert_reqs=none",
    files=("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
)


def certificate_advice(error: ssl.SSLCertVerificationError, options: TlsOptions) -> str:
    """Say what to do where a server's certificate was refused."""
    if error.verify_code in _WRONG_TIME:
        return "the server needs a new certificate, or a clock is wrong"
    if error.verify_code in _WRONG_HOST:
        return (
            "the URL must name the host as the certificate does"
            f" ({options.without_host} does not compare it)"
        )
    return (
        f"{options.authorities}=/path in the URL must name the certificate of the authority that"
        f" signed the server's ({options.without_check} accepts any)"
    )


def unreadable_files(values: Iterable[tuple[str, str]], options: TlsOptions) -> str | None:
    """Name the files in a URL's options that cannot be read, and why; None if all can be."""
    faults = []
    for name, path in values:
        if name in options.files:
            try:
                with open(path, "rb"):  # noqa: PTH123 (a Path would not take what may be no path)
                    pass
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                faults.append(f"{name}={path}: {why}")
    return "; ".join(faults) or None
