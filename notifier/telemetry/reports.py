"""Reports of errors to Sentry, an optional dependency: what is logged as an error, without anything of a request."""

from __future__ import annotations

from notifier import __version__
from notifier.config import Telemetry
from notifier.errors import ConfigError


def set_up(section: Telemetry) -> None:
    """Does nothing without a DSN. Raises ConfigError when the optional dependency is missing or the DSN is wrong."""
    if not section.sentry_dsn:
        return
    try:
        import sentry_sdk  # noqa: PLC0415 - an optional dependency
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(["telemetry.sentry_dsn: needs Sentry's client: pip install 'notifier[sentry]'"]) from error
    try:
        sentry_sdk.init(
            dsn=str.__str__(section.sentry_dsn),
            release=f"notifier@{__version__}",
            include_local_variables=False,  # they hold tokens and data
            max_breadcrumbs=0,
            auto_enabling_integrations=False,
        )
    except BadDsn as error:
        raise ConfigError(["telemetry.sentry_dsn: not a DSN of Sentry"]) from error
