"""Which model answers, and what may not pass for it."""

from __future__ import annotations

from datagen.plan.arguments import model_identity
from datagen.plan.compile import BuildRequest, compile_plan
from datagen.plan.teacher import override_model, without_weights
from datagen.workspace.load import Workspace
from tests.conftest import ROOT

PIN = "smollm2-135m"


def identity(**request: object) -> dict[str, object]:
    """The teacher of fact_seeking, as its step is fingerprinted with it."""
    plan = compile_plan(Workspace(ROOT), BuildRequest(mixture="phase2", **request))  # type: ignore[arg-type]
    found: dict[str, object] = plan.step("generate/fact_seeking@finewiki").arguments["model"]
    return found


def test_a_bare_name_never_passes_for_a_pin() -> None:
    """Neither its name nor its revision: a ledger would replay it as the pinned weights."""
    named = override_model(Workspace(ROOT), "http://127.0.0.1:1/v1", PIN.upper())
    assert named is not None
    assert named.name != PIN and named.served_as == PIN.upper()
    assert (named.revision, named.licence) == ("unknown", "unknown")


def test_another_endpoint_does_not_vouch_for_weights() -> None:
    """The pin's hash is that of the embedded file; elsewhere its revision is unknown."""
    pin = Workspace(ROOT).model(PIN).spec
    assert pin.revision.startswith("sha256:")
    assert without_weights(pin).revision == "unknown"
    assert identity()["revision"] == pin.revision
    assert identity(elsewhere=True)["revision"] == "unknown"


def test_what_decides_answers_is_in_the_identity() -> None:
    """A shorter context refuses other rows, so it makes another step."""
    pin = Workspace(ROOT).model(PIN).spec
    assert pin.embedded is not None
    shorter = pin.embedded.model_copy(update={"context_tokens": 128})
    assert model_identity(pin) != model_identity(pin.model_copy(update={"embedded": shorter}))
