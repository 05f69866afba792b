"""Prompt templates: `<name>.jinja` files, split into roles before anything is rendered.

    prompts = load_prompts(workspace.prompt_files("fact_seeking"), root=workspace.root)
    messages = prompts["extract"].messages({"page": text})      # ((role, content), ...)
    text = prompts["text_plain"].text({"question": question})   # for the text of a record

A line that holds only `[[system]]`, `[[user]]` or `[[assistant]]` begins a message; without one the
whole file is a user message. The split is done on the template's source, so text from a seed can
never begin a message. Each part is a template of its own: a block cannot span two messages.

What is rendered for a model is also cleared of chat-control tokens, because servers parse them
inside content. A space goes after the first character of each (`<|im_end|>` -> `< |im_end|>`,
`[INST]` -> `[ INST]`), which no tokenizer reads as the token and a reader still recognises. It is
done on the rendered message, so that a token cannot be put together from two harmless variables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from datagen.errors import WorkspaceError

Messages = tuple[tuple[str, str], ...]

_ROLE = re.compile(r"^\[\[(system|user|assistant)\]\][ \t]*$", re.MULTILINE)
_OPENING = re.compile(
    r"""(?:
           <(?= \|[^\s|<>]{1,64}\|> | ｜[^\s｜<>]{1,64}｜>
               | /?(?:s|bos|eos|pad|unk|think|tool_call|tool_response|tools)>
               | (?:start|end)_of_(?:turn|image)>
               | </?SYS>> | SPECIAL_\d+> | extra_id_\d+> )
         | \[(?= /?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK|ARGS)\] )
         )""",
    re.VERBOSE | re.IGNORECASE,
)
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)
# A plain dict: rendering copies it, and the layered one of `make_globals` costs more than the rest.
_GLOBALS = dict(_ENVIRONMENT.globals)


def defang(text: str) -> str:
    """Break chat-control tokens in text that goes into a message; lone surrogates become '?'."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-8", "replace").decode()
    # Every token begins with one of these; looking for them is far cheaper than the pattern.
    if "<" not in text and "[" not in text:
        return text
    return _OPENING.sub(lambda match: match[0] + " ", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A parsed template file; `sha256` is that of its bytes, `where` its path for messages."""

    name: str
    where: str
    sha256: str
    variables: frozenset[str]
    _parts: tuple[tuple[str, jinja2.Template | str], ...]
    _whole: jinja2.Template | None

    @classmethod
    def parse(cls, name: str, source: bytes, *, where: str) -> Prompt:
        """Parse a template's bytes; `WorkspaceError` names the line of a mistake."""
        try:
            text = source.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise WorkspaceError(
                f"not UTF-8 at byte {error.start}", where=where, fix="save the prompt as UTF-8"
            ) from None
        parts: list[tuple[str, jinja2.Template | str]] = []
        variables: set[str] = set()
        for role, padded in _split(text):
            variables |= _variables(padded, where)
            template = _compile(padded, where)
            # What holds nothing to fill in is rendered once and for all.
            plain = defang(template.render().strip()) if _is_constant(padded) else None
            parts.append((role, template if plain is None else plain))
        # A template without roles may also be the text of a record, rendered as it stands.
        whole = None if _ROLE.search(text) else _compile(text, where)
        return cls(
            name=name,
            where=where,
            sha256=hashlib.sha256(source).hexdigest(),
            variables=frozenset(variables),
            _parts=tuple(parts),
            _whole=whole,
        )

    def messages(self, variables: Mapping[str, Any]) -> Messages:
        """Render as messages for a model, without control tokens; empty messages fall away."""
        kept = tuple(
            (role, content)
            for role, part in self._parts
            if (content := part if isinstance(part, str) else self._message(part, variables))
        )
        if not kept:
            raise WorkspaceError(
                "the prompt renders to nothing", where=self.where, fix="give it some text"
            )
        return kept

    def text(self, variables: Mapping[str, Any]) -> str:
        """Render as plain text: data for a record, exactly as the variables say."""
        if self._whole is None:
            raise WorkspaceError(
                "a template with role lines is a prompt, not a text",
                where=self.where,
                fix="take the [[...]] lines out, or ask it instead of rendering it",
            )
        return self._render(self._whole, variables)

    def _message(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        return defang(self._render(template, variables).strip())

    def _render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        try:
            return template.render(variables)
        except jinja2.UndefinedError as error:
            where = f"{self.where}:{_line_of(error, self.where)}"
            fix = "pass the variable where the prompt is asked, or correct its name; passed: "
            raise WorkspaceError(
                str(error.message), where=where, fix=fix + (", ".join(sorted(variables)) or "none")
            ) from None
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise WorkspaceError(
                f"the template fails: {error}",
                where=f"{self.where}:{_line_of(error, self.where)}",
                fix="correct the expression, or pass a value of the right kind",
            ) from None


def load_prompts(files: Mapping[str, Path], *, root: Path) -> dict[str, Prompt]:
    """Parse a recipe's templates, by name; messages show their paths relative to `root`."""
    prompts: dict[str, Prompt] = {}
    for name, path in files.items():
        try:
            source = path.read_bytes()
        except OSError as error:
            raise WorkspaceError(
                f"cannot be read ({error.strerror})", where=str(path), fix="check its permissions"
            ) from None
        shown = path.relative_to(root).as_posix()
        prompts[name] = Prompt.parse(name, source, where=shown)
    return prompts


def _split(text: str) -> list[tuple[str, str]]:
    """Cut a source into (role, part); each part keeps its line numbers by leading newlines."""
    marks = list(_ROLE.finditer(text))
    if not marks:
        return [("user", text)]
    parts: list[tuple[str, str]] = []
    if text[: marks[0].start()].strip():
        parts.append(("user", text[: marks[0].start()]))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = text[mark.end() : following.start() if following else len(text)]
        parts.append((mark[1], "\n" * text.count("\n", 0, mark.end()) + body))
    return parts


def _variables(source: str, where: str) -> set[str]:
    """Check one part of a template, and name the variables it uses."""
    try:
        tree = _ENVIRONMENT.parse(source)
        names = jinja2.meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise WorkspaceError(
            f"template syntax: {error.message}",
            where=f"{where}:{error.lineno}",
            fix="correct the template; a {% block %} must begin and end within one message",
        ) from None
    kinds = (jinja2.nodes.Include, jinja2.nodes.Import, jinja2.nodes.FromImport)
    for node in tree.find_all((*kinds, jinja2.nodes.Extends)):
        raise WorkspaceError(
            "a prompt stands alone: include, import and extends are refused",
            where=f"{where}:{node.lineno}",
            fix="copy the text in, so that the prompt's hash covers all of it",
        )
    return names


def _compile(source: str, where: str) -> jinja2.Template:
    code = _ENVIRONMENT.compile(source, name=where, filename=where)
    return jinja2.Template.from_code(_ENVIRONMENT, code, _GLOBALS)


def _is_constant(source: str) -> bool:
    """Whether a part is text alone."""
    kinds = (jinja2.nodes.Output, jinja2.nodes.TemplateData)
    return all(
        isinstance(node, kinds) for node in _ENVIRONMENT.parse(source).find_all(jinja2.nodes.Node)
    )


def _line_of(error: BaseException, where: str) -> int:
    """The template line an error came from: Jinja gives its frames the template's file name."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == where:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
