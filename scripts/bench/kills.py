"""Kill builds with -9, resume them, and hold the result against an undisturbed build.

python scripts/bench/kills.py [--kills 50] [--seed 0] [--embedded]

A kill comes at a random moment of a step, or as a system call that a traced build made is entered
again (strace's injection). A round starts from nothing, or from the finished steps before the one
aimed at, with an empty ledger or a full one, and may be killed again while it resumes. Promised:
no answer that `ask` has returned is lost; nothing is sent again that was acknowledged or recorded;
the manifest equals that of the undisturbed build; every hash holds and no draft file stays.
With --embedded the embedded model fills the ledger once and must not be started again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from datagen.errors import DatagenError
from datagen.plan.builds import find_build, verify
from datagen.shards.manifest import read_manifest
from tests.servers import FaultServer, conforming
from tests.workshop import Step, Workshop

PHASES = ("generation", "curation", "packing", "manifest")
_ASKING = "generate/quiz"
_CALLS = (
    *("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "symlink", "connect", "sendto", "ftruncate"),
)
_ON_SOCKETS = ("connect", "sendto")
_TRACED = re.compile(r"^(\d+) +(\w+)\((.*)\) = -?\d")
_LONGEST_S = 120.0
_AGAIN = 0.25


def answer(body: Mapping[str, Any], sample: int) -> str:
    """Answer every tenth first asking with something that needs the repair attempt."""
    said = conforming(body, sample)
    first = len(body["messages"]) == 1
    return "no JSON" if first and random.Random(said).random() < 0.1 else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call of the traced build: the `nth` of its name on this path in its thread."""

    name: str
    path: str
    nth: int
    step: Step | None
    phase: str


@dataclass(slots=True)
class Tally:
    """What the kills did, and every broken promise in words."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    ledgers: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    resumed: int = 0
    answers: int = 0
    lost: int = 0
    in_flight: int = 0
    sent_again: int = 0
    most_in_flight: Counter[int] = field(default_factory=Counter)
    paid_twice: int = 0
    differing: int = 0
    strays: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many kills landed."""
        return sum(self.kills.values())

    def phase(self, phase: str) -> int:
        """How many kills landed in a phase."""
        return sum(count for (where, _), count in self.kills.items() if where == phase)


class Bench:
    """An undisturbed build, its steps and its system calls; then rounds of kills against it."""

    def __init__(
        self, shop: Workshop, server: FaultServer | None, *, seed: int, trace: bool = True
    ) -> None:
        self.shop = shop
        self.server = server
        self.draw = random.Random(seed)
        self.tally = Tally()
        self.places = 8
        self.again = _AGAIN
        self.reference = built = shop.build()
        print(
            f"undisturbed: {built['tokens']:,} tokens, {built['model_calls']} requests, "
            f"{built['seconds']} s, manifest {built['manifest_sha256'][:12]}\n"
        )
        self.answers = shop.answers()
        self.finished = shop.root / "finished"
        shutil.copytree(shop.out, self.finished / "out", symlinks=True)
        shutil.copytree(shop.ledger.parent, self.finished / "ledger")
        self.steps = shop.steps()
        self.traced: list[Call] = []
        if shutil.which("strace"):
            self.traced = self._trace() if trace else self._usual_calls()

    def _usual_calls(self) -> list[Call]:
        """The calls that make a step's last shard and its manifest durable, without a trace."""
        drafts = [
            (step, phase, str(self.shop.out / step.folder / draft))
            for step in self.steps
            for phase, draft in (
                (step.phase, f"shards/.{step.parts - 1:05}.parquet.tmp"),
                ("manifest", ".manifest.json.tmp"),
            )
        ]
        return [
            Call(name=name, path=path, nth=1, step=step, phase=phase)
            for step, phase, path in drafts
            for name in ("openat", "fsync", "rename")
        ]

    def _trace(self) -> list[Call]:
        """Build once more under strace; every call on a path of out/ or of the ledger."""
        self.shop.forget(answers=self.server is not None)
        log = self.shop.root / "trace"
        tracer = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={','.join(_CALLS)}"]
        process = self.shop.start(before=[*tracer, "-o", str(log)])
        _, complaint = process.communicate(timeout=_LONGEST_S)
        if process.returncode:
            raise RuntimeError(f"the traced build ended with {process.returncode}: {complaint}")
        found: list[Call] = []
        seen: Counter[tuple[str, str, str]] = Counter()
        finished: set[str] = set()
        for line in log.read_text(errors="replace").splitlines():
            match = _TRACED.match(line)
            if match is None:
                continue
            thread, name, words = match.groups()
            places = re.findall(rf"({re.escape(str(self.shop.root))}/[^\s\">,]+)", words)
            ours = [p for p in places if str(self.shop.out) in p or str(self.shop.ledger) in p]
            if not ours and name not in _ON_SOCKETS:
                continue
            path = ours[0] if ours else ""
            seen[thread, name, path] += 1
            step = next((s for s in self.steps if f"/{s.folder}" in path), None)
            phase, nth = self._phase_of_call(name, path, step, finished), seen[thread, name, path]
            found.append(Call(name=name, path=path, nth=nth, step=step, phase=phase))
        return found

    def _phase_of_call(self, name: str, path: str, step: Step | None, finished: set[str]) -> str:
        """Where a traced call belongs; after a step's last part comes its manifest."""
        if step is None:
            return "manifest" if "/latest" in path else "generation"
        if step.name in finished or "manifest.json" in path or "/README.md" in path:
            return "manifest"
        if name.startswith("rename") and path.endswith(f"/.{step.parts - 1:05}.json.tmp"):
            finished.add(step.name)
        return step.phase

    def round(self, phase: str, kind: str) -> None:
        """One chain: a start, a kill, perhaps another one while it resumes, and then the end."""
        shop = self.shop
        shop.forget(answers=True)
        self.places = self.draw.choice((2, 8, 32))
        if self.server is not None:
            shop.serve(max_concurrency=self.places)
        if self.server is None or self.draw.random() < 0.25:
            shutil.copytree(self.finished / "ledger", shop.ledger.parent)
        call = self._call_of(phase) if kind == "injected" else None
        step = call.step if call else self._step_of(phase)
        if step is not None and phase != "generation" and self.draw.random() < 0.6:
            self._prepare(step)
        recorded = set(shop.answers())
        warm = "warm" if recorded else "cold"
        sent = Counter[str]()
        while True:
            landed, bodies = self._kill(step, call, phase)
            self._check_sent(bodies, recorded, sent)
            recorded = self._check_ledger()
            if not landed:
                self.tally.missed += 1
                break
            self.tally.ledgers[warm] += 1
            if self.draw.random() > self.again:
                break
            call, phase = None, self.draw.choice(PHASES[1:])
            step = self._step_of(phase)
        self._finish(recorded, sent)

    def _call_of(self, phase: str) -> Call:
        """A traced call of the phase, each name as likely; mostly one that answers pass through."""
        aimed = [call for call in self.traced if call.phase == phase]
        asking = [call for call in aimed if call.step is None or _ASKING in call.path]
        if asking and self.draw.random() < 0.75:
            aimed = asking
        name = self.draw.choice(sorted({call.name for call in aimed}))
        return self.draw.choice([call for call in aimed if call.name == name])

    def _step_of(self, phase: str) -> Step:
        wanted = [step for step in self.steps if phase in (step.phase, "manifest")]
        asking = [step for step in wanted if step.name.startswith(_ASKING)]
        return self.draw.choice(asking if asking and phase == "generation" else wanted)

    def _prepare(self, step: Step) -> None:
        """Lay out the finished steps before one, with the answers that they rest on."""
        for earlier in self.steps[: self.steps.index(step)]:
            shutil.copytree(self.finished / "out" / earlier.folder, self.shop.out / earlier.folder)
            if earlier.name.startswith(_ASKING):
                # The answers of a finished step are recorded: its ledger cannot be empty.
                shutil.copytree(
                    self.finished / "ledger", self.shop.ledger.parent, dirs_exist_ok=True
                )

    def _kill(self, step: Step | None, call: Call | None, phase: str) -> tuple[bool, list[str]]:
        """Start a build and kill it; whether it died of it, and the bodies that it sent."""
        mark = len(self.server.requests) if self.server else 0
        if call is not None:
            before = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call.name}"]
            before += ["-P", call.path] if call.path else []
            before += ["-e", f"inject={call.name}:signal=KILL:when={call.nth}"]
            process = self.shop.start(before=before)
        else:
            process = self.shop.start()
            self._wait_for(process, step, phase)
            process.kill()
        _, complaint = process.communicate(timeout=_LONGEST_S)
        landed = process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if landed:
            kind = "random" if call is None else "injected"
            self.tally.kills[self._phase_on_disk(), kind] += 1
            self.tally.calls[call.name if call else "(random)"] += 1
        elif process.returncode:
            self._break(f"a build ended with {process.returncode}: {complaint}")
        return landed, self._bodies(mark)

    def _wait_for(self, process: subprocess.Popen[str], step: Step | None, phase: str) -> None:
        """Wait until the step is under way, and then for a random part of its time."""
        assert step is not None
        parts = self.shop.out / ".parts" / step.folder
        deadline = time.monotonic() + _LONGEST_S
        wanted = step.parts if phase == "manifest" else 0
        while process.poll() is None and time.monotonic() < deadline:
            if parts.is_dir() and len(list(parts.glob("[0-9]*.json"))) >= wanted:
                break
            time.sleep(0.0005)
        longest = 0.01 if phase == "manifest" else step.seconds
        time.sleep(self.draw.uniform(0, longest))

    def _phase_on_disk(self) -> str:
        """Where a kill landed, from what it left: the first step without a manifest, and parts."""
        out = self.shop.out
        for step in self.steps:
            left = out / ".parts" / step.folder
            parts = len(list(left.glob("[0-9]*.json"))) if left.is_dir() else -1
            if (out / step.folder / "manifest.json").is_file():
                if parts >= 0:
                    return "manifest"
                continue
            return "manifest" if parts == step.parts else step.phase
        return "manifest"

    def _bodies(self, mark: int) -> list[str]:
        """The messages of each request since a mark, as the ledger writes them."""
        if self.server is None:
            return []
        return [json.dumps(body["messages"]) for body in self.server.requests[mark:]]

    def _check_ledger(self) -> set[str]:
        """Read the ledger as the kill left it; every acknowledged answer must stand in it."""
        found = self.shop.answers()
        acknowledged = self.shop.acknowledged()
        self.tally.answers += len(acknowledged)
        if lost := acknowledged - set(found):
            self.tally.lost += len(lost)
            self._break(f"{len(lost)} acknowledged answers are not in the ledger")
        if wrong := [key for key, row in found.items() if row != self.answers.get(key)]:
            self._break(f"{len(wrong)} answers differ from those of the undisturbed build")
        return set(found)

    def _check_sent(self, bodies: Sequence[str], recorded: set[str], sent: Counter[str]) -> None:
        """Compare what a run sent with what was recorded before it; add to what was sent so far."""
        known = {json.dumps(json.loads(self.answers[key][0])) for key in recorded}
        in_flight = [body for body in sent if body not in known]
        again = [body for body in bodies if sent[body]]
        twice = [body for body in bodies if body in known]
        self.tally.in_flight += len(in_flight)
        most = self.tally.most_in_flight
        most[self.places] = max(most[self.places], len(in_flight))
        self.tally.sent_again += len(again)
        self.tally.paid_twice += len(twice)
        if twice or len(again) > len(in_flight):
            self._break(f"{len(twice)} recorded answers were asked for again")
        if len(set(bodies)) < len(bodies):
            self._break(f"{len(bodies) - len(set(bodies))} requests went out twice in one run")
        sent.update(bodies)

    def _finish(self, recorded: set[str], sent: Counter[str]) -> None:
        """Resume to the end, and hold everything that is left against the undisturbed build."""
        mark = len(self.server.requests) if self.server else 0
        try:
            summary = self.shop.build()
            verify(find_build(self.shop.out, None), self.shop.out)
        except (RuntimeError, DatagenError) as error:
            self._break(str(error))
            return
        self.tally.resumed += 1
        self._check_sent(self._bodies(mark), recorded, sent)
        if summary["manifest_sha256"] != self.reference["manifest_sha256"]:
            self.tally.differing += 1
            self._break("the manifest differs from that of the undisturbed build")
        if self.server is None and list(self.shop.temporary.glob("datagen-embedded-*")):
            self._break("the embedded server was started in spite of a full ledger")
        for step in self.steps:
            folder = self.shop.out / step.folder
            listed = {entry.path for entry in read_manifest(folder).files}
            there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
            if extra := there - listed - {"manifest.json"}:
                self.tally.strays += len(extra)
                self._break(f"{step.name} keeps {sorted(extra)}")

    def _break(self, what: str) -> None:
        self.tally.broken.append(what)
        print(f"  broken after kill {self.tally.total}: {what}", flush=True)


def run(bench: Bench, kills: int) -> Tally:
    """Go on until `kills` have landed, and a fifth of them in each phase; then sum up."""
    tally = bench.tally
    least = min(10, kills // 5) if kills >= 5 else 0
    for number in range(4 * kills):
        if tally.total >= kills and all(tally.phase(phase) >= least for phase in PHASES):
            break
        phase = min(PHASES, key=lambda name: (tally.phase(name), bench.draw.random()))
        bench.round(phase, "injected" if bench.traced and number % 3 else "random")
    return tally


def report(tally: Tally, seconds: float) -> None:
    """Print the tables."""
    print(f"{'phase':<12}{'random':>8}{'injected':>10}{'all':>6}")
    for phase in PHASES:
        counts = [tally.kills[phase, kind] for kind in ("random", "injected")]
        print(f"{phase:<12}{counts[0]:>8}{counts[1]:>10}{sum(counts):>6}")
    print(f"{'all':<30}{tally.total:>6}")
    print(f"\nkills by system call: {', '.join(f'{n} {c}' for n, c in tally.calls.most_common())}")
    for what, value in (
        ("kills that began from a cold ledger", tally.ledgers["cold"]),
        ("kills that began from a warm ledger", tally.ledgers["warm"]),
        ("aims that missed (the build ended first)", tally.missed),
        ("builds resumed to the end", tally.resumed),
        ("acknowledged answers looked for after kills", tally.answers),
        ("acknowledged answers lost", tally.lost),
        ("requests in flight at kills", tally.in_flight),
        ("requests sent again", tally.sent_again),
        *(
            (f"most in flight at one kill, of {places} places", most)
            for places, most in sorted(tally.most_in_flight.items())
        ),
        ("recorded answers asked for again", tally.paid_twice),
        ("manifests that differ", tally.differing),
        ("stray files in finished steps", tally.strays),
        ("broken promises", len(tally.broken)),
    ):
        print(f"{what:<46}{value:>6}")
    print(f"\n{seconds:.0f} s")


def main() -> int:
    """Run, print the tables, and fail where a promise is broken or a phase was not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedded", action="store_true", help="warm ledger, embedded model")
    given = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed: random kills only")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="datagen-kills-") as folder:
        if given.embedded:
            shop = Workshop(Path(folder), endpoint="", profile="embedded")
            tally = run(Bench(shop, None, seed=given.seed), given.kills)
        else:
            with FaultServer(answer=answer, delay_s=0.06) as server:
                shop = Workshop(Path(folder), endpoint=server.url)
                tally = run(Bench(shop, server, seed=given.seed), given.kills)
    report(tally, time.monotonic() - started)
    return 1 if tally.broken or tally.total < given.kills else 0


if __name__ == "__main__":
    sys.exit(main())
