"""The client: every fault is recovered from, and what cannot be recovered is said at once."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from datagen.errors import ServiceError, WorkspaceError
from datagen.llm.client import Client, RequestRefused, ServiceDown
from datagen.llm.faults import Fault, retry_after_s
from datagen.llm.pace import Pace
from datagen.llm.transport import read_completion
from datagen.llm.wire import Completion
from tests.llm.common import MODEL, endpoint, request
from tests.servers import FAULTS, FaultServer, conforming

T = TypeVar("T")


def using(
    urls: list[str],
    work: Callable[[Client], Awaitable[T]],
    *,
    most: int = 64,
    key: str | None = None,
    **options: Any,
) -> T:
    async def run() -> T:
        endpoints = [endpoint(url, max_concurrency=most, api_key_env=key) for url in urls]
        async with Client(MODEL, endpoints, **{"timeout_s": 0.4, **options}) as client:
            return await work(client)

    return asyncio.run(run())


def ask_many(count: int) -> Callable[[Client], Awaitable[list[Completion | BaseException]]]:
    async def work(client: Client) -> list[Completion | BaseException]:
        asked = (client.complete(request(f"say {i} of the sea")) for i in range(count))
        return await asyncio.gather(*asked, return_exceptions=True)

    return work


def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def first_time(fault: str) -> Callable[[Mapping[str, Any], int], str | None]:
    return lambda body, times: fault if times == 0 else None


@pytest.mark.parametrize("fault", FAULTS)
def test_each_kind_of_fault_is_recovered_from(fault: str) -> None:
    with FaultServer(script=first_time(fault)) as server:
        (answer,) = using([server.url], ask_many(1))
        assert isinstance(answer, Completion) and answer.choices[0].text
        assert answer.prompt_tokens == 5
        assert server.faulted == {fault: 1} and server.received == 2


def test_one_in_five_requests_may_fail() -> None:
    with FaultServer(share=0.2, seed=11) as server:
        answers = using([server.url], ask_many(500), timeout_s=0.25)
        kept = [answer for answer in answers if isinstance(answer, Completion)]
        assert len(kept) >= 495 and server.received <= 750
        assert set(server.faulted) == set(FAULTS)
    for number, answer in enumerate(answers):
        if isinstance(answer, Completion):
            body = request(f"say {number} of the sea").body()
            assert answer.choices[0].text == conforming(body, 0)


@pytest.mark.parametrize(("header", "at_least_s"), [("0.6", 0.6), ("date", 0.4)])
def test_retry_after_is_honoured(header: str, at_least_s: float) -> None:
    with FaultServer(script=first_time("429"), retry_after=header) as server:
        using([server.url], ask_many(1))
        first, second = server.arrivals
        assert at_least_s <= second - first < at_least_s + 2


def test_retry_after_is_read_as_seconds_or_date() -> None:
    assert retry_after_s("7", now=0) == 7
    assert retry_after_s("Thu, 01 Jan 1970 00:00:09 GMT", now=4) == 5
    assert retry_after_s("-3", now=0) == 0
    assert retry_after_s("soon", now=0) is retry_after_s(None, now=0) is None
    assert retry_after_s("nan", now=0) is None


def test_attempts_are_bounded_and_only_that_request_fails() -> None:
    def script(body: Mapping[str, Any], times: int) -> str | None:
        return "500" if "say 3 " in body["messages"][0]["content"] else None

    with FaultServer(script=script) as server:
        answers = using([server.url], ask_many(6), attempts=3)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(failed) == 1 and isinstance(failed[0], ServiceError)
        assert not isinstance(failed[0], ServiceDown)
        assert server.url in str(failed[0]) and "3 attempts" in str(failed[0])
        assert server.received == 8


def test_a_dead_endpoint_stops_everything_within_its_bound() -> None:
    url = dead_url()
    started = time.monotonic()

    async def work(client: Client) -> list[Completion | BaseException]:
        results = await ask_many(40)(client)
        assert client.requests_sent == 0
        return results

    results = using([url], work, down_after_s=0.5)
    assert 0.5 <= time.monotonic() - started < 2.5
    assert all(isinstance(result, ServiceDown) for result in results)
    assert url in str(results[0]) and "fix:" in str(results[0])
    assert results[0].exit_code == 3  # type: ignore[union-attr]


def test_an_endpoint_that_only_fails_stops_everything() -> None:
    started = time.monotonic()
    with FaultServer(script=lambda body, times: "500") as server:
        results = using([server.url], ask_many(60), down_after_rests=1)
        assert server.received < 60
    assert time.monotonic() - started < 4
    assert all(isinstance(result, ServiceDown) for result in results)
    assert server.url in str(results[0]) and "scripted 500" in str(results[0])


def test_a_dead_endpoint_beside_a_live_one_costs_nothing() -> None:
    with FaultServer() as server:
        answers = using([dead_url(), server.url], ask_many(60), down_after_s=0.2)
        assert all(isinstance(answer, Completion) for answer in answers)
        assert server.received == 60


def test_a_server_that_starts_late_is_waited_for() -> None:
    url = dead_url()

    async def work(client: Client) -> Completion:
        asked = asyncio.create_task(client.complete(request()))
        await asyncio.sleep(0.4)
        with FaultServer(port=int(url.split(":")[2].removesuffix("/v1"))):
            return await asked

    assert using([url], work, down_after_s=5).choices


def test_requests_go_to_the_least_loaded_endpoint_within_its_ceiling() -> None:
    with FaultServer(delay_s=0.02) as one, FaultServer(delay_s=0.02) as two:
        using([one.url, two.url], ask_many(120), most=8)
        assert one.received + two.received == 120
        assert min(one.received, two.received) > 40
        assert max(one.most_at_once, two.most_at_once) <= 8


@pytest.mark.parametrize("status", ["401", "402", "403", "404"])
def test_a_denied_service_stops_the_run(status: str) -> None:
    with FaultServer(script=lambda body, times: status) as server:
        answers = using([server.url], ask_many(5), most=1)
        assert all(isinstance(answer, ServiceDown) for answer in answers)
        assert "API key" in str(answers[0])
        assert server.received == 1


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_refused_request_is_not_repeated(status: str) -> None:
    with FaultServer(script=lambda body, times: status) as server:
        (answer,) = using([server.url], ask_many(1))
        assert isinstance(answer, RequestRefused) and f"scripted {status}" in str(answer)
        assert server.received == 1


def test_an_answer_without_end_is_cut_off() -> None:
    with FaultServer(answer=lambda body, sample: "x" * 100_000) as server:
        (answer,) = using([server.url], ask_many(1), max_bytes=50_000)
        assert isinstance(answer, RequestRefused) and "50000 bytes" in str(answer)


def test_a_proxy_does_not_stand_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, dead_url().removesuffix("/v1"))
    with FaultServer() as server:
        (answer,) = using([server.url], ask_many(1))
        assert isinstance(answer, Completion)


def test_endpoints_may_be_found_when_first_needed() -> None:
    with FaultServer() as server:
        asked: list[int] = []

        def find() -> list[Any]:
            asked.append(1)
            return [endpoint(server.url)]

        async def run() -> None:
            async with Client(MODEL, find) as client:
                assert not asked
                await ask_many(4)(client)

        asyncio.run(run())
        assert asked == [1]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://user:pass@host/v1"])
def test_an_endpoint_that_cannot_be_is_refused(url: str) -> None:
    (error,) = using([url], ask_many(1))
    assert isinstance(error, WorkspaceError) and "pass@" not in str(error)


KEY = "sk-planted-0123456789"


def test_the_key_goes_to_the_server_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level("DEBUG")

    async def work(client: Client) -> tuple[str, Any]:
        result = await ask_many(1)(client)
        return repr(client) + repr(vars(client)), result[0]

    for script in (first_time("500"), lambda body, times: "401", lambda body, times: "echo"):
        with FaultServer(script=script, echo=KEY) as server:
            shown, result = using([server.url], work, attempts=2, key="OPENAI_API_KEY")
            assert server.headers[0]["authorization"] == f"Bearer {KEY}"
            chain = [result]
            while chain[-1] is not None and isinstance(chain[-1], BaseException):
                chain.append(chain[-1].__cause__)
            assert KEY not in shown + "".join(map(str, chain)) + "".join(map(repr, chain))
    (error,) = using([dead_url()], ask_many(1), down_after_s=0.1, key="OPENAI_API_KEY")
    assert KEY not in repr(error) and KEY not in caplog.text


@pytest.mark.parametrize(("key", "sent"), [(None, False), ("", False), ("OPENAI_API_KEY", True)])
def test_a_key_only_goes_where_it_is_named(
    key: str | None, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultServer() as server:
        using([server.url], ask_many(1), key=key)
        monkeypatch.delenv("OPENAI_API_KEY")
        using([server.url], ask_many(1), key=key)
        first, second = (repr(headers) for headers in server.headers)
    assert (KEY in first) == sent and KEY not in second


def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY + "\n" + KEY)
    for name, says in (("SOME_KEY", "characters"), ("NO_SUCH_KEY", "not set")):

        async def run(name: str = name) -> None:
            async with Client(MODEL, [endpoint("http://127.0.0.1:1", api_key_env=name)]) as client:
                await client.complete(request())

        with pytest.raises(WorkspaceError, match=says) as caught:
            asyncio.run(run())
        assert KEY not in str(caught.value)


def test_the_pace_grows_with_answers_and_halves_once_a_batch() -> None:
    pace = Pace(256)
    for _ in range(200):
        pace.succeeded()
    assert pace.limit == 216
    for moment in (10.0, 10.1, 10.2):
        pace.failed(Fault("throttled", ""), started=9.0, now=moment)
        pace.succeeded()
    assert 108 <= pace.limit < 109
    pace.failed(Fault("timeout", ""), started=11.0, now=12.0)
    assert 54 <= pace.limit < 55
    for _ in range(40):
        pace.failed(Fault("unavailable", ""), started=20.0, now=21.0)
    assert pace.limit >= 1 and not pace.ready(21.5) and pace.ready(22.5)
    assert pace.free == 1


def test_throttling_holds_everybody_only_when_it_repeats() -> None:
    pace = Pace(8)
    pace.failed(Fault("throttled", "", retry_after_s=5), started=0, now=1)
    assert pace.ready(1)
    pace.failed(Fault("throttled", "", retry_after_s=5), started=0, now=1)
    assert not pace.ready(5.9) and pace.ready(6)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"choices": null}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": ["x"]}',
        b'{"error": {"message": "x"}, "choices": [{"message": {"content": "a"}}]}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "x"}}',
    ],
)
def test_a_body_that_is_no_whole_answer_is_a_fault_to_retry(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read_completion(body)
    assert caught.value.retryable


def test_thoughts_are_told_from_the_answer() -> None:
    row = b'{"choices": [{"message": {"content": "<think>hm</think>\\n\\nyes"}}]}'
    choice = read_completion(row).choices[0]
    assert (choice.reasoning, choice.text) == ("hm", "yes")
