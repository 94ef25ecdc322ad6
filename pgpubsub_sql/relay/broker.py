"""The connection to the broker: nats-py's event loop in one thread, and what its errors mean.

Everything here uses NATS itself and JetStream's API in JSON. nats-py's own layer for JetStream is
not used: its ``fetch()`` hides the end of a consumer, and its timeouts hide refusals.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any, TypeVar

from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable, NotReady
from pgpubsub_sql.relay.settings import NAME, RelaySettings

logger = logging.getLogger("pgpubsub_sql.relay")

OLDEST = (2, 12, 1)
"""The oldest version of nats-server that takes ids in atomic batches."""
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 5.0
PING_SECONDS = 5
"""Time between two pings; after two without an answer the connection counts as lost."""
RECONNECT_SECONDS = 0.2
CLOSE_SECONDS = 2.0

_GRANT = (
    "Grant it to the user of the relay: `manage.py pgpubsub relay --setup` prints what it needs."
)
_DENIED = ("authorization", "authentication", "expired", "revoked")
"""Words in the errors with which a server ends a connection for good."""
_UNAVAILABLE = 503
_STREAM_NOT_FOUND = 10059
_DISABLED = (10039, 10076)
"""JetStream is not enabled for the account, or not on this server."""

Result = TypeVar("Result")


class Broker:
    """A connection to the broker, whose event loop runs in a thread of its own.

    ::

        with Broker(relay_settings()) as broker:
            broker.run(broker.api("INFO"))

    It reconnects by itself; meanwhile requests fail at once with :class:`BrokerUnavailable`.
    """

    def __init__(self, settings: RelaySettings, *, name: str = "pgpubsub_sql relay") -> None:
        self.settings = settings
        self._name = name
        self._client: Any = None
        self._refusals: dict[asyncio.Future[str], str] = {}
        """What waits for an answer: its subject, as the server writes it in a refusal."""
        self._last_error = ""

    def __enter__(self) -> Broker:
        self._nats = _client_library()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="relay broker", daemon=True)
        self._thread.start()
        try:
            self.run(self._connect(), CONNECT_SECONDS + CLOSE_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(BrokerUnavailable):
            self.run(self._close(self._client), CLOSE_SECONDS)
        self._stop()

    def run(self, work: Coroutine[Any, Any, Result], timeout: float | None = None) -> Result:
        """Run *work* in the broker's thread, and return its result."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(timeout)
        except FutureTimeout:
            future.cancel()
            raise BrokerUnavailable(f"The broker has not answered within {timeout:g} s.") from None

    @property
    def client(self) -> Any:
        """nats-py's client; raise :class:`BrokerUnavailable` while it has no connection."""
        if self._client is None or not self._client.is_connected:
            raise BrokerUnavailable(self._unreachable())
        return self._client

    @property
    def max_payload(self) -> int:
        """Most bytes that a message may have, headers included."""
        return int(self.client.max_payload)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = REQUEST_SECONDS,
    ) -> dict[str, Any]:
        """Send a request and return the answer, a JSON object.

        Raises :class:`BrokerUnavailable` and :class:`BrokerRefused`.
        """
        client, errors = self.client, self._nats.errors
        refusal: asyncio.Future[str] = self.loop.create_future()
        self._refusals[refusal] = subject.lower()
        reply = asyncio.ensure_future(client.request(subject, payload, timeout, headers=headers))
        try:
            await asyncio.wait({reply, refusal}, return_when=asyncio.FIRST_COMPLETED)
            if refusal.done():
                raise BrokerRefused(f"The broker does not permit it: {refusal.result()}. {_GRANT}")
            return _answer(subject, (await reply).data)
        except errors.NoRespondersError:
            raise BrokerUnavailable(
                f"Nobody answers at {subject}: the stream does not exist, has no leader now, or "
                "JetStream is not enabled."
            ) from None
        except (errors.ConnectionClosedError, errors.OutboundBufferLimitError):
            raise BrokerUnavailable(self._unreachable()) from None
        except (errors.Error, OSError) as error:
            raise BrokerUnavailable(f"The broker did not answer: {_text(error)}.") from error
        finally:
            self._refusals.pop(refusal, None)
            if not reply.done():
                reply.cancel()

    async def send(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        reply: str = "",
    ) -> None:
        """Send a message that is not answered, or whose answers come to the subject *reply*.

        Raises :class:`BrokerUnavailable`.
        """
        client, errors = self.client, self._nats.errors
        try:
            await client.publish(subject, payload, reply, headers)
        except (errors.ConnectionClosedError, errors.OutboundBufferLimitError):
            raise BrokerUnavailable(self._unreachable()) from None
        except (errors.Error, OSError) as error:
            raise BrokerUnavailable(f"The broker has taken no message: {_text(error)}.") from error

    async def api(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call JetStream's API, such as ``STREAM.INFO.name``.

        Raises :class:`BrokerUnavailable`, and :class:`BrokerRefused` with the broker's reason.
        """
        answer = await self.request(f"$JS.API.{verb}", json.dumps(body).encode() if body else b"")
        if "error" in answer:
            raise refusal(verb, answer["error"])
        return answer

    async def find(self, verb: str) -> dict[str, Any] | None:
        """Return what :meth:`api` does, or None if there is no such stream."""
        try:
            return await self.api(verb)
        except BrokerRefused as error:
            if error.number == _STREAM_NOT_FOUND:
                return None
            raise

    # --- The thread, and the connection

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(_end_tasks())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    async def _connect(self) -> None:
        client = self._nats.Client()
        denial: asyncio.Future[str] = self.loop.create_future()

        async def note(error: Exception) -> None:
            self._note(error)
            # The end of the connection, which follows, is reported as another error.
            if _is_denied(error) and not denial.done():
                denial.set_result(self._last_error)

        connecting = asyncio.ensure_future(
            client.connect(error_cb=note, closed_cb=self._closed, **self._options())
        )
        try:
            await asyncio.wait(
                {connecting, denial},
                timeout=CONNECT_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if denial.done():
                raise BrokerRefused(
                    f"The broker refuses the relay: {denial.result()}. Correct the credentials in "
                    f"{NAME}."
                )
            if not connecting.done():
                raise BrokerUnavailable(self._unreachable())
            await connecting
            self._check_version(client)
        except self._nats.errors.Error as error:
            raise BrokerUnavailable(self._unreachable(_text(error))) from error
        except BaseException:
            connecting.cancel()
            await asyncio.wait({connecting}, timeout=CLOSE_SECONDS)
            await self._close(client)
            raise
        self._client = client

    def _options(self) -> dict[str, Any]:
        given = self.settings
        return {
            "servers": list(given.servers),
            "name": self._name,
            "connect_timeout": CONNECT_SECONDS,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_SECONDS,
            "ping_interval": PING_SECONDS,
            "pending_size": 0,  # nothing is sent later than its sender knows
            "user": given.user,
            "password": given.password,
            "token": given.token,
            "user_credentials": given.credentials,
            "nkeys_seed": given.nkey_seed,
            "tls": _tls(given),
        }

    def _check_version(self, client: Any) -> None:
        found = client.connected_server_version
        if (found.major, found.minor, found.patch) < OLDEST:
            raise BrokerRefused(
                f"The broker is nats-server {found.major}.{found.minor}.{found.patch}. The relay "
                f"needs {'.'.join(map(str, OLDEST))} or newer, which takes ids in atomic batches."
            )

    async def _closed(self) -> None:
        """Connect anew once nats-py has given up, as it does after some errors of the server."""
        if self._client is None or not self._client.is_closed:
            return
        self._client = None
        while self._client is None:
            with suppress(BrokerUnavailable, BrokerRefused):
                await self._connect()
                return
            await asyncio.sleep(CONNECT_SECONDS)

    async def _close(self, client: Any) -> None:
        self._client = None
        with suppress(self._nats.errors.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(client.close(), CLOSE_SECONDS)

    def _note(self, error: Exception) -> None:
        """Note an error that nats-py reports; a refusal ends the request that it is about."""
        self._last_error = _text(error)
        logger.debug("The connection to the broker: %s", self._last_error)
        text = self._last_error.lower()
        for waiting, subject in self._refusals.items():
            if "permissions violation" in text and f'"{subject}"' in text and not waiting.done():
                waiting.set_result(self._last_error)

    def _unreachable(self, reason: str = "") -> str:
        servers = ", ".join(self.settings.servers)
        reason = reason or self._last_error or "no answer"
        return f"The broker cannot be reached at {servers}: {reason}."


async def _end_tasks() -> None:
    """Cancel what still runs in this loop, and let it close its connections."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
    await asyncio.sleep(0)  # transports are closed by callbacks


def refusal(what: str, error: Mapping[str, Any]) -> BrokerRefused | BrokerUnavailable:
    """Return the exception for an *error* that JetStream has answered."""
    number, reason = int(error.get("err_code", 0)), str(error.get("description", error))
    if number in _DISABLED:
        return BrokerRefused(
            f"JetStream is not enabled for the relay's account: {reason}. Enable it, with a "
            "store_dir on a disk that lasts.",
            number,
        )
    if error.get("code") == _UNAVAILABLE:
        return BrokerUnavailable(f"The broker cannot do {what} now: {reason}.")
    return BrokerRefused(f"The broker refuses {what}: {reason} ({number}).", number)


def _answer(subject: str, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BrokerRefused(f"What answers at {subject} is not JetStream: {data[:100]!r}.")
    return answer


def _client_library() -> Any:
    try:
        import_module("nats.aio.client")
        return import_module("pgpubsub_sql.relay.client")
    except ImportError as error:
        raise NotReady(
            "The relay needs nats-py, which is not installed. Install it: "
            'pip install "pgpubsub-sql[nats]"'
        ) from error


def _tls(given: RelaySettings) -> ssl.SSLContext | None:
    is_wanted = any(server.startswith("tls://") for server in given.servers)
    if not (is_wanted or given.tls_ca or given.tls_certificate):
        return None
    try:
        context = ssl.create_default_context(cafile=given.tls_ca)
        if given.tls_certificate:
            context.load_cert_chain(given.tls_certificate, given.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise NotReady(
            f"A certificate or key that {NAME} names cannot be read: {error}. See 'tls_ca', "
            "'tls_certificate' and 'tls_key'."
        ) from error
    return context


def _is_denied(error: Exception) -> bool:
    text = _text(error).lower()
    return any(word in text for word in _DENIED)


def _text(error: Exception) -> str:
    return str(error).strip().removeprefix("nats: ").strip("'").rstrip(".") or type(error).__name__
