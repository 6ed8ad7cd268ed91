"""The composition root of the gateway: what is built, from what, and how long it lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI

from gateway.auth.api_key_watch import ApiKeyWatch
from gateway.auth.api_keys import ApiKeys, key_throttle
from gateway.auth.issuer import TokenIssuer
from gateway.auth.login import Login
from gateway.auth.passwords import PasswordChecker
from gateway.auth.revoked_sessions import RevokedSessions
from gateway.auth.throttle import LoginThrottle
from gateway.auth.users import Users
from gateway.auth.verifier import TokenVerifier
from gateway.fanout.backlog import Backlog
from gateway.fanout.bus import Bus
from gateway.fanout.delivery import Delivery
from gateway.fanout.heartbeat import Heartbeat
from gateway.fanout.hub import Hub
from gateway.fanout.replay import Replayer
from gateway.fanout.slow_tables import SlowTables
from gateway.fanout.staleness_watch import StalenessWatch
from gateway.metrics import GatewayMetrics
from gateway.streams.drain import Drain
from gateway.streams.limits import StreamLimits
from gateway.tables.catalog import Catalog
from gateway.tables.recent_answers import RecentAnswers
from gateway.tables.roles import Roles
from gateway.visibility.engine import Visibility
from gateway.visibility.traced_observer import TracedObserver
from gateway.web.admin import admin_router
from gateway.web.admission import Admission
from gateway.web.authentication import Authentication
from gateway.web.client_module import client_module_router
from gateway.web.console import ConsoleOptions, console_router
from gateway.web.cors import CorsPolicy
from gateway.web.error_responses import error_body, install_error_handlers
from gateway.web.health import health_router
from gateway.web.login import login_router
from gateway.web.oauth_stream import OAuthStream, is_oauth
from gateway.web.open_files import allow_streams
from gateway.web.openapi import describe, document_router
from gateway.web.protocol import STREAM_PATH
from gateway.web.readiness import Readiness
from gateway.web.scrape import Scrape, metrics_router
from gateway.web.server import ManagementServer, Server, server_config
from gateway.web.stream import StreamEndpoint
from gateway.web.tables import tables_router
from shared.pool import open_pool
from shared.tasks import end
from shared.tracing import NO_TRACING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, MutableMapping

    import asyncpg
    from fastapi.telemetry import TelemetryConfig

    from gateway.settings import GatewaySettings
    from shared.tracing import Tracing

    ASGIApp = Callable[..., Awaitable[None]]

_MOST_MANAGEMENT_CONNECTIONS: Final = 32
_UNTRACED: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""FastAPI's own spans name URLs, and with them tokens and clients: none are made."""


async def serve(settings: GatewaySettings, tracing: Tracing = NO_TRACING) -> None:
    """Run a gateway until it is asked to stop; a part that fails takes it down, loudly."""
    budget = allow_streams(settings.realtime_max_connections)
    metrics = GatewayMetrics(region=settings.region)
    async with (
        open_pool(
            settings.read_database,
            application_name="ayb-gateway",
            most=settings.realtime_pool_connections,
            settings={
                "default_transaction_read_only": "on",
                "statement_timeout": str(round(settings.realtime_statement_seconds * 1000)),
                "jit": "off",
                "max_parallel_workers_per_gather": "0",
            },
            command_seconds=settings.realtime_statement_seconds + 5,
            on_refused=metrics.connects_refused.inc,
        ) as pool,
        asyncio.TaskGroup() as group,
    ):
        gateway = Gateway(
            settings, pool, group, metrics, most_streams=budget.streams, tracing=tracing
        )
        side = [
            group.create_task(gateway.bus.run(), name="bus"),
            group.create_task(gateway.backlog.run(), name="backlog"),
            group.create_task(gateway.staleness.run(), name="staleness"),
            group.create_task(gateway.hub.run(), name="hub"),
            group.create_task(gateway.replayer.run(), name="replayer"),
            group.create_task(gateway.heartbeat.run(), name="heartbeat"),
            group.create_task(gateway.key_watch.run(), name="API keys"),
            *(
                [group.create_task(gateway.verifier.run(), name="key set")]
                if gateway.verifier is not None
                else []
            ),
        ]
        server = Server(
            server_config(
                gateway.app,
                host=settings.server_host,
                port=settings.server_port,
                forwarded_allow_ips=settings.forwarded_allow_ips,
                most_connections=budget.connections,
            ),
            setting="AYB_SERVER_PORT",
            drain=gateway.stop,
        )
        if settings.management_port is not None:
            beside = ManagementServer(
                server_config(
                    gateway.management,
                    host=settings.server_host,
                    port=settings.management_port,
                    forwarded_allow_ips=settings.forwarded_allow_ips,
                    most_connections=_MOST_MANAGEMENT_CONNECTIONS,
                ),
                setting="AYB_MANAGEMENT_PORT",
            )
            side.append(group.create_task(beside.serve(), name="management"))
        try:
            await server.serve_until_drained()
        finally:
            await end(side)


class Gateway:
    """All parts of one gateway, put together."""

    def __init__(
        self,
        settings: GatewaySettings,
        pool: asyncpg.Pool,
        group: asyncio.TaskGroup,
        metrics: GatewayMetrics,
        *,
        most_streams: int,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        def spawn(work: Coroutine[Any, Any, None], name: str) -> object:
            return group.create_task(work, name=name)

        self.metrics = metrics
        self.verifier, self.key_watch = _verifier(settings, pool)
        visibility = (
            Visibility(
                pool,
                observer=TracedObserver(self.metrics.visibility, tracing)
                if tracing.is_on
                else self.metrics.visibility,
                loop_seconds=settings.realtime_statement_seconds / 5,
                verify_rate=settings.realtime_verify,
                trusted_functions=frozenset(settings.realtime_trusted_functions),
                setting_names=settings.setting_names,
                spare_sessions=settings.spare_sessions,
                spawn=spawn,
            )
            if settings.auth_enabled
            else None
        )
        bus_key = settings.realtime_bus_key
        self.backlog = Backlog(
            pool,
            most_bytes=settings.realtime_ring_bytes,
            max_record_bytes=settings.realtime_max_record_bytes,
            metrics=self.metrics,
        )
        self.staleness = StalenessWatch(
            pool, self.backlog, max_lag_seconds=settings.realtime_max_lag_seconds
        )
        self.bus = Bus(
            settings.redis_url.get_secret_value(),
            key=None if bus_key is None else bus_key.get_secret_value().encode(),
            channel_prefix=settings.realtime_channel_prefix,
            backlog=self.backlog,
            metrics=self.metrics,
            on_tick=self.staleness.on_tick,
            tracing=tracing,
        )
        slow_tables = SlowTables()
        delivery = Delivery(
            visibility=visibility,
            backlog=self.backlog,
            deletes=settings.realtime_deletes,
            metrics=self.metrics,
            slow_tables=slow_tables,
            pool_connections=settings.realtime_pool_connections - settings.spare_sessions,
            tracing=tracing,
        )
        self.hub = Hub(
            backlog=self.backlog,
            bus=self.bus,
            delivery=delivery,
            metrics=self.metrics,
        )
        self.replayer = Replayer(
            hub=self.hub,
            backlog=self.backlog,
            delivery=delivery,
            slow_tables=slow_tables,
            metrics=self.metrics,
        )
        self.hub.divert_to(self.replayer)
        self.heartbeat = Heartbeat(
            hub=self.hub,
            replayer=self.replayer,
            backlog=self.backlog,
            seconds=settings.realtime_heartbeat_seconds,
        )
        self._drain = Drain(
            seconds=settings.realtime_drain_seconds,
            delay_seconds=settings.realtime_drain_delay_seconds,
        )
        limits = StreamLimits(
            most=most_streams,
            most_per_user=settings.realtime_max_connections_per_user,
            most_per_address=settings.realtime_max_connections_per_address,
        )
        answers = RecentAnswers()
        catalog = Catalog(pool, visibility, answers)
        # Tables are what clients choose: however many they name, roles are still looked up.
        roles = Roles(pool, RecentAnswers())
        authentication = Authentication(
            verifier=self.verifier,
            anonymous_role=settings.auth_anon_role,
            roles=roles,
            setting_names=settings.setting_names,
        )
        cors = CorsPolicy(settings.cors_origins)
        stream = StreamEndpoint(
            admission=Admission(
                authentication=authentication,
                catalog=catalog,
                hub=self.hub,
                backlog=self.backlog,
                drain=self._drain,
            ),
            limits=limits,
            hub=self.hub,
            replayer=self.replayer,
            backlog=self.backlog,
            key_watch=self.key_watch,
            metrics=self.metrics,
            cors=cors,
            most_pending_bytes=settings.realtime_max_pending_bytes,
            spawn=spawn,
        )
        health = health_router(
            settings.region,
            Readiness(
                pool=pool,
                hub=self.hub,
                bus=self.bus,
                staleness=self.staleness,
                drain=self._drain,
                role_check=roles,
                roles=settings.client_roles,
                other_roles=settings.claimed_roles,
                max_lag_seconds=settings.realtime_max_lag_seconds,
                spawn=lambda probe: group.create_task(probe, name="readiness probe"),
            ),
        )
        scrape = Scrape(
            pool=pool,
            metrics=metrics,
            limits=limits,
            replayer=self.replayer,
            hub=self.hub,
            backlog=self.backlog,
            bus=self.bus,
            staleness=self.staleness,
            find_gone=catalog.gone,
        )
        web = FastAPI(
            title="ayb-realtime",
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            telemetry=_UNTRACED,
        )
        cors.install(web)
        install_error_handlers(web)
        web.include_router(health)
        web.include_router(client_module_router())
        web.include_router(tables_router(authentication=authentication, catalog=catalog))
        if settings.auth_login_enabled and self.verifier is not None:
            users = Users(pool)
            login = _login(settings, users)
            web.include_router(login_router(login=login, users=users, verifier=self.verifier))
        if settings.explain_secret is not None and self.verifier is not None:
            web.include_router(
                admin_router(
                    pool=pool,
                    verifier=self.verifier,
                    secret=settings.explain_secret.get_secret_value(),
                    deletes=settings.realtime_deletes,
                    trusted_functions=frozenset(settings.realtime_trusted_functions),
                    setting_names=settings.setting_names,
                )
            )
        if settings.console_enabled:
            web.include_router(
                console_router(
                    ConsoleOptions(
                        has_auth=settings.auth_enabled,
                        has_login=settings.auth_login_enabled,
                        has_explain=settings.explain_secret is not None,
                        allows_anonymous=settings.auth_anon_role is not None,
                        demo_url=settings.console_demo_url,
                    ),
                    pool=pool,
                    authentication=authentication,
                )
            )
        management = web
        if settings.management_port is not None:
            management = FastAPI(
                title="ayb-realtime management", openapi_url=None, telemetry=_UNTRACED
            )
            install_error_handlers(management)
            management.include_router(health)
        management.include_router(metrics_router(scrape))
        document = describe(web, STREAM_PATH)
        management.include_router(document_router(document))
        self.oauth = OAuthStream(settings.server_url, limits=limits, drain=self._drain, cors=cors)
        self.app = _dispatch(stream, self.oauth, web)
        self.management = management

    async def stop(self, stop_accepting: Callable[[], None]) -> None:
        """Leave the load balancer, stop accepting, and end the streams in turn."""
        await self._drain.run(
            lambda: [*self.hub.connections(), *self.replayer.connections()], stop_accepting
        )
        await self.oauth.close()


def _verifier(
    settings: GatewaySettings, pool: asyncpg.Pool
) -> tuple[TokenVerifier | None, ApiKeyWatch]:
    if not settings.auth_enabled:
        return None, ApiKeyWatch(None)
    options = settings.token_options
    keys = (
        ApiKeys(pool, options.mapping, throttle=key_throttle()) if settings.auth_api_keys else None
    )
    return TokenVerifier(options, api_keys=keys), ApiKeyWatch(keys)


def _login(settings: GatewaySettings, users: Users) -> Login:
    secret = settings.auth_jwt_secret
    assert secret is not None  # noqa: S101 (checked by the settings)
    return Login(
        users=users,
        issuer=TokenIssuer(
            secret.get_secret_value(),
            issuer=settings.auth_jwt_issuer,
            audience=settings.auth_jwt_audience,
        ),
        passwords=PasswordChecker(),
        throttle=LoginThrottle(),
        revoked=RevokedSessions(
            settings.session_redis_url.get_secret_value(),
            prefix=settings.realtime_channel_prefix,
        ),
    )


def _dispatch(stream: StreamEndpoint, oauth: OAuthStream, web: ASGIApp) -> ASGIApp:
    """Lead the stream past the framework: nothing may stand between the hub and the socket."""

    def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> Awaitable[None]:  # noqa: ANN401
        # No coroutine of its own: it would last, and take memory, as long as the stream.
        if scope["path"] != STREAM_PATH or scope["method"] == "OPTIONS":
            return web(scope, receive, send)
        if scope["method"] == "GET":
            serve = oauth if is_oauth(scope["query_string"]) else stream
            return serve(scope, receive, send)
        refusal = error_body(405, "method not allowed", {"Allow": "GET, OPTIONS"})
        return refusal(scope, receive, send)

    return app
