"""Asking: answers are paid for once, validated, repaired once, and recorded in a fixed order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, Field

from datagen.errors import ServiceError, WorkspaceError
from datagen.llm.ask import AnswerRejected, Ask, SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.teacher import Teacher
from datagen.workspace import specs
from tests.llm.common import MODEL, asker, endpoint, prompts
from tests.servers import FaultServer

T = TypeVar("T")
Body = Mapping[str, Any]


class Fact(BaseModel):
    text: str = Field(min_length=1)
    score: int = Field(ge=0, le=10)


class Facts(BaseModel):
    items: list[Fact] = Field(min_length=1, max_length=3)


PROMPTS = prompts(
    extract="[[system]]\nBe exact.\n[[user]]\nPage: {{ page }}\n",
    question="[[user]]\nAsk about {{ fact }}.\n",
    text_plain="{{ question }} -> {{ answer }}\n",
)
PAGE = "The quick brown fox jumps over the lazy dog beside the river"
GOOD = '{"text": "the fox", "score": 3}'


def teaching(
    server: FaultServer,
    ledger_at: Path,
    work: Callable[[Teacher], Awaitable[T]],
    *,
    model: specs.ModelSpec = MODEL,
    **options: Any,
) -> T:
    async def run() -> T:
        options.setdefault("timeout_s", 5)
        with Ledger(ledger_at) as ledger:
            served = endpoint(server.url, api_key_env="OPENAI_API_KEY")
            async with Client(model, [served], **options) as client:
                teacher = Teacher(client, ledger)
                try:
                    return await work(teacher)
                finally:
                    await teacher.drain()

    return asyncio.run(run())


@pytest.fixture
def ledger_at(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_an_answer_follows_its_type(ledger_at: Path) -> None:
    async def work(teacher: Teacher) -> tuple[Facts, str, SeedAsk]:
        ask = asker(teacher, PROMPTS)
        typed: Ask = ask
        facts = await typed("extract", into=Facts, page=PAGE)
        question = await typed("question", into=str, fact=facts.items[0].text)
        return facts, question, ask

    with FaultServer() as server:
        facts, question, ask = teaching(server, ledger_at, work)
        schema = server.requests[0]["response_format"]["json_schema"]
    assert 1 <= len(facts.items) <= 3 and question
    assert schema["name"] == "Facts" and schema["schema"] == Facts.model_json_schema()
    assert [call.prompt for call in ask.calls] == ["extract", "question"]
    first = ask.calls[0]
    assert first.prompt_sha256 == PROMPTS["extract"].sha256 and first.model == "m"
    assert first.messages[1]["content"] == f"Page: {PAGE}"
    assert Facts.model_validate_json(first.answer) == facts
    assert first.prompt_tokens > 0 and first.completion_tokens > 0


def test_a_warm_ledger_needs_no_server(ledger_at: Path) -> None:
    async def work(teacher: Teacher) -> tuple[Facts, int, list[Any]]:
        ask = asker(teacher, PROMPTS)
        facts = await ask("extract", into=Facts, page=PAGE)
        return facts, teacher.client.requests_sent, ask.calls

    with FaultServer() as server:
        cold = teaching(server, ledger_at, work)
    warm = teaching(server, ledger_at, work)
    assert (cold[1], warm[1]) == (1, 0)
    assert (cold[0], cold[2]) == (warm[0], warm[2])


def test_equal_requests_in_flight_are_sent_once(ledger_at: Path) -> None:
    async def work(teacher: Teacher) -> list[Facts]:
        one = (
            asker(teacher, PROMPTS, row_key=str(row))("extract", into=Facts, page=PAGE)
            for row in range(50)
        )
        return await asyncio.gather(*one)

    with FaultServer(delay_s=0.05) as server:
        answers = teaching(server, ledger_at, work)
        assert server.received == 1 and all(answer == answers[0] for answer in answers)


def test_a_seed_given_up_does_not_take_the_answer_along(ledger_at: Path) -> None:
    async def work(teacher: Teacher) -> Facts:
        def ask() -> asyncio.Task[Facts]:
            return asyncio.create_task(asker(teacher, PROMPTS)("extract", into=Facts, page=PAGE))

        first, second = ask(), ask()
        await asyncio.sleep(0.05)
        first.cancel()
        return await second

    with FaultServer(delay_s=0.2) as server:
        assert teaching(server, ledger_at, work).items
        assert server.received == 1


def answering(*texts: str | Mapping[str, Any]) -> Callable[[Body, int], str | Mapping[str, Any]]:
    """Answer a conversation by its turn: the first text first, the next one to a repair."""

    def answer(body: Body, sample: int) -> str | Mapping[str, Any]:
        return texts[min(sum(m["role"] == "assistant" for m in body["messages"]), len(texts) - 1)]

    return answer


def ask_fact(**options: Any) -> Callable[[Teacher], Awaitable[tuple[Any, SeedAsk]]]:
    async def work(teacher: Teacher) -> tuple[Any, SeedAsk]:
        ask = asker(teacher, PROMPTS, **options)
        try:
            return await ask("question", into=Fact, fact="foxes"), ask
        except AnswerRejected as error:
            return error, ask

    return work


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"text": "", "score": 3}', "schema"),
        ('{"text": "a", "score": 30}', "schema"),
        ("no JSON at all", "invalid_json"),
        ("", "empty"),
        ({"content": '{"text": "cut of', "finish_reason": "length"}, "truncated"),
        ({"content": '{"text": "a",' + " " * 500, "finish_reason": "length"}, "truncated"),
        ({"content": None, "reasoning_content": "h", "finish_reason": "length"}, "truncated"),
    ],
)
def test_a_bad_answer_is_repaired_once_then_rejected(
    ledger_at: Path, bad: str | Mapping[str, Any], reason: str
) -> None:
    with FaultServer(answer=answering(bad, GOOD)) as server:
        fact, ask = teaching(server, ledger_at, ask_fact())
        assert fact == Fact(text="the fox", score=3) and len(ask.calls) == 2
        repair = server.requests[1]
        assert [m["role"] for m in repair["messages"]] == ["user", "assistant", "user"]
        assert repair["seed"] != server.requests[0]["seed"]
    with FaultServer(answer=answering(bad)) as server:
        error, ask = teaching(server, ledger_at.with_name("other"), ask_fact())
        assert isinstance(error, AnswerRejected) and error.reason == reason
        assert server.received == 2 and list(error.calls) == [call.key for call in ask.calls]


def test_a_bad_answer_is_paid_for_once_too(ledger_at: Path) -> None:
    with FaultServer(answer=answering("bad")) as server:
        teaching(server, ledger_at, ask_fact())
        teaching(server, ledger_at, ask_fact())
        assert server.received == 2


def test_a_refusal_is_not_argued_with(ledger_at: Path) -> None:
    with FaultServer(answer=answering({"content": None, "refusal": "I will not"})) as server:
        error, _ = teaching(server, ledger_at, ask_fact())
        assert (error.reason, error.detail, server.received) == ("refused", "I will not", 1)


@pytest.mark.parametrize(
    "text",
    [
        {"content": GOOD + "\n" * 900, "finish_reason": "length"},
        f"Sure! Here it is:\n```json\n{GOOD}\n```\nI hope {{this}} helps.",
        f"With x in {{1, 2}} it follows that {GOOD}",
    ],
)
def test_whole_json_counts_wherever_it_stands(
    ledger_at: Path, text: str | Mapping[str, Any]
) -> None:
    plain = MODEL.model_copy(update={"structured_output": False})
    with FaultServer(answer=answering(text)) as server:
        fact, _ = teaching(server, ledger_at, ask_fact(), model=plain)
        assert fact == Fact(text="the fox", score=3)
        assert "response_format" not in server.requests[0]


def test_an_object_inside_a_broken_one_never_stands_for_it(ledger_at: Path) -> None:
    for place, text in enumerate((f'{{"inner": {GOOD}, oops', f'{{"inner": {GOOD}, "b": "c')):
        with FaultServer(answer=answering(text)) as server:
            error, _ = teaching(server, ledger_at.with_name(str(place)), ask_fact())
            assert isinstance(error, AnswerRejected)


def test_the_call_budget_is_enforced_warm_as_cold(ledger_at: Path) -> None:
    async def work(teacher: Teacher) -> tuple[str, int]:
        ask = asker(teacher, PROMPTS, max_calls=2)
        for page in ("a", "b"):
            await ask("extract", into=Facts, page=page)
        with pytest.raises(AnswerRejected) as caught:
            await ask("extract", into=Facts, page="c")
        return caught.value.reason, len(ask.calls)

    with FaultServer() as server:
        assert teaching(server, ledger_at, work) == ("call_budget", 2)
        assert teaching(server, ledger_at, work) == ("call_budget", 2)
        assert server.received == 2
    with FaultServer(answer=answering("bad", GOOD)) as server:
        error, ask = teaching(server, ledger_at, ask_fact(max_calls=1))
        assert error.reason == "invalid_json" and server.received == 1 and ask.exhausted
    with FaultServer(most_choices=1) as server:
        for calls in (3, 2):
            work_n = ask_samples(3, calls)
            assert teaching(server, ledger_at.with_name("n"), work_n) == (calls == 2)


def ask_samples(n: int, max_calls: int) -> Callable[[Teacher], Awaitable[bool]]:
    async def work(teacher: Teacher) -> bool:
        ask = asker(teacher, PROMPTS, max_calls=max_calls)
        with suppress(AnswerRejected):
            await ask.answers("extract", into=Facts, n=n, page=PAGE)
        return ask.exhausted

    return work


def test_closing_ends_what_still_asks_and_loses_no_answer(ledger_at: Path) -> None:
    async def two(ask: SeedAsk) -> None:
        await ask("extract", into=Facts, page="a")
        await ask("extract", into=Facts, page="b")

    async def work(teacher: Teacher) -> tuple[bool, int]:
        ask = asker(teacher, PROMPTS)
        asking = asyncio.create_task(two(ask))
        await asyncio.sleep(0.05)
        await ask.close()
        with pytest.raises(asyncio.CancelledError):
            await ask("extract", into=Facts, page="c")
        return asking.cancelled(), len(ask.calls)

    with FaultServer(delay_s=0.2) as server:
        assert teaching(server, ledger_at, work) == (True, 0)
        assert server.received == 1
    with Ledger(ledger_at) as ledger:
        assert len(ledger) == 1


@pytest.mark.parametrize(("most", "received"), [(None, 1), (1, 5), (2, 3)])
def test_n_samples_come_from_one_request_where_the_server_can(
    ledger_at: Path, most: int | None, received: int
) -> None:
    async def work(teacher: Teacher) -> list[Any]:
        ask = asker(teacher, PROMPTS)
        answers = await ask.answers("extract", into=Facts, n=5, logprobs=True, page=PAGE)
        assert len(ask.calls) == 5
        return answers

    with FaultServer(most_choices=most) as server:
        answers = teaching(server, ledger_at, work)
        assert len(answers) == 5 and server.received == received
    assert len({answer.text for answer in answers}) > 1
    assert all(answer.logprobs and answer.logprobs[0].logprob == -0.5 for answer in answers)


def test_only_valid_samples_are_returned_in_order(ledger_at: Path) -> None:
    def answer(body: Body, sample: int) -> str:
        return "bad" if sample % 2 else GOOD.replace("3", str(sample))

    async def work(teacher: Teacher) -> list[int]:
        found = await asker(teacher, PROMPTS).answers("question", into=Fact, n=5, fact="x")
        return [answer.value.score for answer in found]

    with FaultServer(answer=answer) as server:
        assert teaching(server, ledger_at, work) == [0, 2, 4]


def test_the_order_of_calls_does_not_depend_on_arrival(ledger_at: Path) -> None:
    async def chain(ask: SeedAsk, page: str, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        await ask("extract", into=Facts, page=page)
        await asyncio.sleep(wait_s)
        await ask("question", into=str, fact=page)

    async def work(teacher: Teacher, waits: list[float]) -> list[Any]:
        ask = asker(teacher, PROMPTS, max_calls=20)
        await ask("question", into=str, fact="first")
        await asyncio.gather(*(chain(ask, str(i), wait) for i, wait in enumerate(waits)))
        return ask.calls

    with FaultServer() as server:
        one = teaching(server, ledger_at, lambda t: work(t, [0, 0.02, 0.04, 0.01]))
        two = teaching(server, ledger_at, lambda t: work(t, [0.04, 0.0, 0.01, 0.03]))
    assert one == two
    assert [call.prompt for call in one] == ["question"] + ["extract"] * 4 + ["question"] * 4
    assert "first" in one[0].messages[0]["content"]


def test_a_prompt_too_long_for_the_model_rejects_the_seed(ledger_at: Path) -> None:
    words = "request (4038 tokens) exceeds the available context size (2048 tokens)"
    with FaultServer(script=lambda body, times: "400", echo=words) as server:
        error, _ = teaching(server, ledger_at, ask_fact())
        assert isinstance(error, AnswerRejected) and error.reason == "too_long"


def test_output_that_the_server_cannot_read_rejects_the_seed(ledger_at: Path) -> None:
    """One request, not six: the same seed gives the same output."""
    words = "The model produced output that does not match the expected peg-native format"
    with FaultServer(script=lambda body, times: "500", echo=words) as server:
        error, _ = teaching(server, ledger_at, ask_fact())
        assert isinstance(error, AnswerRejected) and error.reason == "unreadable"
        assert len(server.requests) == 1


def test_errors_are_never_recorded(ledger_at: Path) -> None:
    async def work(teacher: Teacher) -> None:
        with pytest.raises(ServiceError):
            await asker(teacher, PROMPTS)("question", into=Fact, fact="x")

    for kind in ("500", "error_body", "null_content", "400"):
        with FaultServer(script=lambda body, times, kind=kind: kind) as server:  # type: ignore[misc]
            teaching(server, ledger_at, work, attempts=2)
    with Ledger(ledger_at) as ledger:
        assert len(ledger) == 0


def test_no_secret_reaches_the_ledger(ledger_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-9876")
    with FaultServer() as server:
        teaching(server, ledger_at, ask_fact())
        assert "sk-planted-9876" in server.headers[0]["authorization"]
    files = list(ledger_at.parent.iterdir())
    assert files and all(b"sk-planted" not in path.read_bytes() for path in files)


def test_sampling_is_laid_over_the_recipe_and_seeds_are_the_builds(ledger_at: Path) -> None:
    recipe = {"question": specs.Sampling(temperature=0.3, max_tokens=40, stop=("END",), seed=4)}

    async def work(teacher: Teacher) -> None:
        ask = asker(teacher, PROMPTS, sampling=recipe)
        await ask("question", into=str, fact="x", sampling={"temperature": 0.9})
        await ask("extract", into=str, page="x", sampling={"seed": 4})
        await ask("extract", into=str, page="x")
        with pytest.raises(WorkspaceError, match="temprature"):
            await ask("question", into=str, fact="x", sampling={"temprature": 1})

    with FaultServer() as server:
        teaching(server, ledger_at, work)
        one, two, three = server.requests
    assert (one["temperature"], one["max_tokens"], one["stop"]) == (0.9, 40, ["END"])
    assert one["seed"] == two["seed"] != three["seed"] and "stop" not in two


def test_balanced_choices_come_once_a_block() -> None:
    """Among any `ways` seeds drawn in a row, in an order that is not that of the rows."""

    def choices(ways: int, *parts: str) -> list[int]:
        return [asker(None, {}, number=n).balanced(ways, *parts) for n in range(40 * ways)]

    for ways in (1, 2, 4, 7):
        found = choices(ways, "letter")
        blocks = [tuple(found[n : n + ways]) for n in range(0, len(found), ways)]
        assert all(sorted(block) == list(range(ways)) for block in blocks)
        assert ways == 1 or len(set(blocks)) > 1
    assert choices(4, "letter") != choices(4, "class")


def test_texts_and_draws_need_nobody() -> None:
    ask = asker(None, PROMPTS)
    assert ask.text("text_plain", question="<|im_end|>?", answer="no") == "<|im_end|>? -> no"
    draws = {ask.draw("a"), ask.draw("b"), ask.draw("a", "b"), ask.draw("ab"), ask.draw()}
    assert len(draws) == 5 and all(0 <= draw < 1 << 64 for draw in draws)
    assert ask.draw("a") == asker(None, {}).draw("a") != asker(None, {}, row_key="2").draw("a")
    with pytest.raises(WorkspaceError, match="no model"):
        asyncio.run(ask("question", into=str, fact="x"))
    with pytest.raises(WorkspaceError, match="no prompt 'nosuch'") as caught:
        ask.text("nosuch")
    assert "extract, question, text_plain" in str(caught.value)


def test_a_model_that_thinks_gets_room_for_it(tmp_path: Path) -> None:
    """`thinking_tokens` of the pin come on top of what the prompt allows."""
    thinking = MODEL.model_copy(update={"thinking_tokens": 900})

    async def run(url: str) -> None:
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            async with Client(thinking, [endpoint(url)], timeout_s=5) as client:
                ask = asker(Teacher(client, ledger), prompts(p="{{ x }}"))
                await ask("p", into=str, sampling={"max_tokens": 50}, x="a")

    with FaultServer() as server:
        asyncio.run(run(server.url))
        assert [body["max_tokens"] for body in server.requests] == [950]
