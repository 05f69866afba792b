"""The ledger: acknowledged means durable, and only whole answers of this program come back."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datagen.errors import DataError
from datagen.llm.ledger import Ledger
from datagen.llm.wire import Choice, Completion, TokenLogprob
from tests.llm.common import request

ANSWER = Completion(
    choices=(
        Choice(text="das Meer – 海", finish_reason="stop", reasoning="hm"),
        Choice(
            text="",
            finish_reason="length",
            refusal="no",
            logprobs=(TokenLogprob(token="a", logprob=-0.25),),
        ),
    ),
    prompt_tokens=3,
    completion_tokens=5,
)


def put_all(ledger: Ledger, texts: list[str]) -> list[Completion]:
    async def run() -> list[Completion]:
        return await asyncio.gather(*(ledger.put(request(text), ANSWER) for text in texts))

    return asyncio.run(run())


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    with Ledger(tmp_path / "sub" / "l.sqlite") as ledger:
        assert ledger.get(request("a").key()) is None
        put_all(ledger, ["a"])
        assert ledger.get(request("a").key()) == ANSWER
    with Ledger(tmp_path / "sub" / "l.sqlite") as ledger:
        assert ledger.get(request("a").key()) == ANSWER
        assert len(ledger) == 1


def test_many_puts_share_commits_and_none_is_lost(tmp_path: Path) -> None:
    texts = [f"t{i}" for i in range(600)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        put_all(ledger, texts)
        assert len(ledger) == 600
        assert all(ledger.get(request(text).key()) == ANSWER for text in texts)


def test_the_first_recorded_answer_stands_for_every_process(tmp_path: Path) -> None:
    other = Completion(choices=(Choice(text="late", finish_reason="stop"),))
    with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as two:
        assert put_all(one, ["a"]) == [ANSWER]
        assert asyncio.run(two.put(request("a"), other)) == ANSWER
        assert two.get(request("a").key()) == ANSWER


def test_every_part_of_a_request_is_in_its_key() -> None:
    from datagen.workspace.specs import Sampling

    variants = [
        request(),
        request("other"),
        request(revision="r2"),
        request(model="n"),
        request(served_as="alias"),
        request(prompt_sha256="1" * 64),
        request(seed=2),
        request(logprobs=True),
        request(reasoning_effort="low"),
        request(schema={"type": "object"}),
        request(schema={"properties": {"a": {}, "b": {}}}),
        request(schema={"properties": {"b": {}, "a": {}}}),
        *(
            request(sampling=Sampling(**change))
            for change in (
                {"temperature": 0.1},
                {"top_p": 0.5},
                {"max_tokens": 9},
                {"n": 2},
                {"stop": ("x",)},
            )
        ),
    ]
    assert len({variant.key() for variant in variants}) == len(variants)
    assert request().key() == request().key()


def test_keys_are_those_of_every_earlier_ledger() -> None:
    """Another key for the same request would have every recorded answer paid for again."""
    from datagen.workspace.specs import Sampling

    plain = request("das Meer – 海")
    assert plain.key() == "c07ab1808becf03578354302875a4f92e6f4b097c2f755cc83e38c45299c3a6c"
    whole = request(
        messages=(("system", "s"), ("user", 'say "x"\n')),
        sampling=Sampling(temperature=1, top_p=0.5, max_tokens=9, n=2, stop=("a", "b")),
        logprobs=True,
        schema_name="Facts",
        schema={"type": "object", "properties": {"b": {"type": "string"}, "a": {}}},
        reasoning_effort="low",
    )
    assert whole.key() == "9d4dd220f9a29e984db06ef0bf622c2aed0b1df3f8afbbe36324c95b01c5934f"


def test_one_round_of_the_loop_shares_a_look_and_the_next_one_sees_more(tmp_path: Path) -> None:
    async def run() -> None:
        with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as two:
            assert one.get(request("a").key()) is None
            await two.put(request("a"), ANSWER)
            assert one.get(request("a").key()) == ANSWER
            assert one.get(request("b").key()) is None
            await one.put(request("b"), ANSWER)
            assert one.get(request("b").key()) == ANSWER == two.get(request("b").key())
            assert await asyncio.to_thread(two.get, request("b").key()) == ANSWER
        await asyncio.sleep(0)

    asyncio.run(run())


def test_groups_of_any_size_with_answers_known_and_new(tmp_path: Path) -> None:
    other = Completion(choices=(Choice(text="late", finish_reason="stop"),))
    texts = [f"t{i}" for i in range(77)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        put_all(ledger, texts[::3])

        async def run() -> list[Completion]:
            return await asyncio.gather(*(ledger.put(request(text), other) for text in texts * 2))

        stand = asyncio.run(run())
        assert len(ledger) == 77
    for place, answer in enumerate(stand):
        assert answer == (ANSWER if place % 77 % 3 == 0 else other)


PUTTER = """
import asyncio, sys
from pathlib import Path
from datagen.llm.ledger import Ledger
from tests.llm.common import request
from tests.llm.test_ledger import ANSWER

async def forever(ledger, lane):
    for i in range(1_000_000):
        await ledger.put(request(f"{sys.argv[2]}-{lane}-{i}"), ANSWER)
        sys.stdout.write(request(f"{sys.argv[2]}-{lane}-{i}").key() + "\\n")
        sys.stdout.flush()

async def main():
    with Ledger(Path(sys.argv[1])) as ledger:
        await asyncio.gather(*(forever(ledger, lane) for lane in range(8)))

asyncio.run(main())
"""


def test_every_acknowledged_answer_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    chance = random.Random(5)
    acknowledged: list[str] = []
    for round_ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", PUTTER, str(path), str(round_)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        acknowledged.append(child.stdout.readline().strip())
        time.sleep(chance.uniform(0, 0.15))
        child.kill()
        # A line cut by the kill is no acknowledgement that anybody could have read.
        rest = child.stdout.read().split("\n")[:-1]
        acknowledged += rest
        child.wait()
    with Ledger(path) as ledger:
        lost = [key for key in acknowledged if ledger.get(key) is None]
        assert lost == [] and len(acknowledged) > 50


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="not an intact ledger"):
        Ledger(tmp_path / "text")
    with sqlite3.connect(tmp_path / "foreign") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(DataError, match="another program"):
        Ledger(tmp_path / "foreign")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be read or written"):
        Ledger(tmp_path / "folder")


def test_a_changed_answer_is_refused_not_used(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        put_all(ledger, ["a"])
    with sqlite3.connect(tmp_path / "l.sqlite") as other:
        other.execute("UPDATE answers SET answer = replace(answer, 'Meer', 'meer')")
    other.close()
    with Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(DataError) as caught:
            ledger.get(request("a").key())
        assert request("a").key() in str(caught.value) and str(tmp_path) in str(caught.value)


FULL = """
import asyncio, resource, sys
from pathlib import Path
from datagen.errors import DataError
from datagen.llm.ledger import Ledger
from tests.llm.common import request
from tests.llm.test_ledger import ANSWER, put_all

ledger = Ledger(Path(sys.argv[1]))
put_all(ledger, ["kept"])
size = Path(sys.argv[1] + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    put_all(ledger, ["lost"])
except DataError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put_all(ledger, ["later"])
ledger.close()
"""


def test_a_disk_that_takes_no_more_is_said_and_survived(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "l.sqlite" in done.stdout and "fix:" in done.stdout and "disk" in done.stdout
    with Ledger(path) as ledger:
        found = [ledger.get(request(text).key()) for text in ("kept", "lost", "later")]
    assert found == [ANSWER, None, ANSWER]


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    mount = "mount -t tmpfs -o size=64k none . && exec "
    script = mount + f'{sys.executable} -c "$0"'
    probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none ."]
    try:
        able = subprocess.run(probe, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    except OSError:
        able = False
    if not able:
        pytest.skip("this machine lets no user mount a tmpfs of its own")
    fill = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.llm.test_ledger import *\n"
        "try:\n"
        "    ledger = Ledger(Path('l.sqlite'))\n"
        "    for i in range(100): put_all(ledger, [f'{i}' * 500])\n"
        "except DataError as error: print(error)\n"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script + ' "$1"', fill, str(Path.cwd())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the disk is full" in done.stdout, done.stderr
