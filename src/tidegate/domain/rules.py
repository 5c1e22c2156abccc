"""The language of policy files, which is oslo.policy's: from a rule's text to a check.

oslo.policy itself needs twenty times as long for an answer, on the event loop. And this differs on
purpose: what cannot be read, or names what does not exist, is an error and not a refusal in
silence; nobody's project is nobody's (there, None is equal to None); no rule asks another server.
"""

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from tidegate.domain.image import Image
from tidegate.domain.policy import DEFAULT_RULES, Caller, Rule
from tidegate.domain.rule_texts import TEXTS


class RuleError(Exception):
    """A text that is no rule, and the name under which it stands; one line."""

    def __init__(self, message: str, rule: str = "") -> None:
        super().__init__(f"{rule}: {message}" if rule else message)
        self.rule = rule


class Asked:
    """What a check is asked."""

    def __init__(self, caller: Caller, image: Image | None, member: str | None) -> None:
        self.caller = caller
        self.image = image
        self.member = member

    @cached_property
    def target(self) -> Mapping[str, object]:
        """The image, as the texts name what it has."""
        return _target(self.caller, self.image, self.member)


Check = Callable[[Asked], bool]
Text = str | Sequence[str | Sequence[str]]

_CREDENTIALS: Mapping[str, Callable[[Caller], str | bool | frozenset[str] | None]] = {
    "user_id": lambda caller: caller.user,
    "user": lambda caller: caller.user,
    "project_id": lambda caller: caller.project,
    "tenant": lambda caller: caller.project,
    "tenant_id": lambda caller: caller.project,
    "user_domain_id": lambda caller: caller.user_domain,
    "project_domain_id": lambda caller: caller.project_domain,
    "domain_id": lambda caller: None,
    "system_scope": lambda caller: None,
    "is_admin": lambda caller: caller.is_admin,
    "roles": lambda caller: caller.roles,
    "service_roles": lambda caller: caller.service_roles,
}
_WORD = re.compile(r"\S+")
_PIECE = re.compile(r"%\((?P<name>[^)]*)\)s|(?P<percent>%%)|(?P<bad>%)|(?P<text>[^%]+)")
_OPERATORS = ("and", "or", "not")
_MISSING = object()


def compiled(given: Mapping[str, Text]) -> dict[str, Rule]:
    """All rules, the given ones in the place of the built-in ones of their names. RuleError."""
    texts: dict[str, Text] = {**TEXTS, **given}
    built_in = {name for name in DEFAULT_RULES if name not in given and not _affected(name, given)}
    checks = {name: _built_in(DEFAULT_RULES[name]) for name in built_in}

    def check_of(name: str, asking: tuple[str, ...] = ()) -> Check:
        if name not in texts:
            raise RuleError(f"there is no rule {name!r}{nearest(name, texts)}")
        if name in asking:
            raise RuleError(f"it asks itself: {' → '.join((*asking, name))}")
        if name not in checks:
            try:
                checks[name] = _parsed(texts[name], lambda other: check_of(other, (*asking, name)))
            except RuleError as error:
                raise error if error.rule else RuleError(str(error), name) from None
        return checks[name]

    for name in texts:
        check_of(name)
    decided = {*DEFAULT_RULES, *given.keys() & {"context_is_admin"}} - built_in
    return {**DEFAULT_RULES, **{name: _asking(checks[name]) for name in decided}}


def references(text: Text) -> set[str]:
    """The rules that a text names."""
    found: set[str] = set()

    def note(name: str) -> Check:
        found.add(name)
        return lambda asked: True

    _parsed(text, note)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint, or nothing."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _affected(name: str, given: Mapping[str, Text]) -> bool:
    """Whether a built-in rule asks a helper that is replaced (who is an administrator, it asks
    the caller)."""
    return not given.keys().isdisjoint(references(TEXTS[name]) - {"context_is_admin"})


def _built_in(rule: Rule) -> Check:
    return lambda asked: rule(asked.caller, asked.image, asked.member)


def _asking(check: Check) -> Rule:
    def rule(caller: Caller, image: Image | None, member: str | None) -> bool:
        return check(Asked(caller, image, member))

    return rule


def _target(caller: Caller, image: Image | None, member: str | None) -> dict[str, object]:
    target: dict[str, object] = {"project_id": caller.project, "owner": caller.project}
    if image is not None:
        target = {
            **image.properties,
            "project_id": image.owner,
            "owner": image.owner,
            "image_id": image.id,
            "id": image.id,
            "name": image.name,
            "visibility": image.visibility,
            "status": image.status,
            "protected": image.protected,
            "os_hidden": image.hidden,
            "disk_format": image.disk_format,
            "container_format": image.container_format,
            "min_disk": image.min_disk,
            "min_ram": image.min_ram,
            "size": image.size,
        }
    target.pop("member_id", None)  # a property of that name is none
    if member is not None:
        target["member_id"] = member
    return target


# from text to check


def _parsed(text: Text, refer: Callable[[str], Check]) -> Check:
    if isinstance(text, str):
        return _Parser(text, refer).whole() if text else _anybody
    if not text:
        return _anybody
    # the old form: one of several lists, of which each holds as a whole
    return _any(
        [
            _all([_check(word, refer) for word in ([inner] if isinstance(inner, str) else inner)])
            for inner in text
            if inner
        ]
    )


class _Token(NamedTuple):
    """``at``: the letter where it begins, from 1."""

    text: str
    at: int

    @property
    def operator(self) -> str:
        """``and``, ``or``, ``not``, a bracket, or nothing."""
        lowered = self.text.lower()
        return lowered if lowered in (*_OPERATORS, "(", ")") else ""


def _tokens(text: str) -> Iterator[_Token]:
    for word in _WORD.finditer(text):
        inner, start = word[0], word.start() + 1
        while inner.startswith("("):
            yield _Token("(", start)
            inner, start = inner[1:], start + 1
        plain = inner.rstrip(")")
        if plain:
            yield _Token(plain, start)
        for extra in range(len(inner) - len(plain)):
            yield _Token(")", start + len(plain) + extra)


class _Parser:
    """``not`` binds tightest, then ``and``, then ``or``."""

    def __init__(self, text: str, refer: Callable[[str], Check]) -> None:
        self._tokens = list(_tokens(text))
        self._end = len(text) + 1
        self._next = 0
        self._refer = refer

    def whole(self) -> Check:
        check = self._or()
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            raise RuleError(f"{token.text!r} is not expected at letter {token.at}")
        return check

    def _or(self) -> Check:
        checks = [self._and()]
        while self._take("or"):
            checks.append(self._and())
        return _any(checks)

    def _and(self) -> Check:
        checks = [self._not()]
        while self._take("and"):
            checks.append(self._not())
        return _all(checks)

    def _not(self) -> Check:
        if self._take("not"):
            check = self._not()
            return lambda asked: not check(asked)
        if self._take("("):
            check = self._or()
            if not self._take(")"):
                raise RuleError(f"')' is missing at letter {self._at()}")
            return check
        if self._next == len(self._tokens):
            raise RuleError(f"a check is missing at letter {self._at()}")
        token = self._tokens[self._next]
        if token.operator:
            raise RuleError(f"{token.text!r} is not expected at letter {token.at}")
        self._next += 1
        try:
            return _check(token.text, self._refer)
        except RuleError as error:
            raise error if error.rule else RuleError(f"{error} (at letter {token.at})") from None

    def _take(self, operator: str) -> bool:
        taken = self._next < len(self._tokens) and self._tokens[self._next].operator == operator
        self._next += taken
        return taken

    def _at(self) -> int:
        return self._tokens[self._next].at if self._next < len(self._tokens) else self._end


def _check(word: str, refer: Callable[[str], Check]) -> Check:
    if word == "@":
        return _anybody
    if word == "!":
        return _nobody
    kind, colon, right = word.partition(":")
    if not colon:
        raise RuleError(f"{word!r} is no check; one is like role:admin")
    if kind in ("http", "https"):
        raise RuleError(f"{word!r}: no other server is asked")
    if kind == "rule":
        return refer(right)
    if kind == "role":
        return _has_role(_value(right))
    try:
        literal = str(ast.literal_eval(kind))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _is_caller(kind, _value(right))
    value = _value(right, none="None")
    return lambda asked: value(asked) == literal


def _has_role(value: Callable[[Asked], str | None]) -> Check:
    def check(asked: Asked) -> bool:
        role = value(asked)
        return role is not None and role.lower() in asked.caller.roles

    return check


def _is_caller(kind: str, value: Callable[[Asked], str | None]) -> Check:
    if kind not in _CREDENTIALS:
        raise RuleError(f"a caller has no {kind!r}{nearest(kind, ('role', 'rule', *_CREDENTIALS))}")
    of = _CREDENTIALS[kind]

    def check(asked: Asked) -> bool:
        own, wanted = of(asked.caller), value(asked)
        if isinstance(own, frozenset):
            return wanted in own
        return own is not None and wanted is not None and str(own) == wanted

    return check


def _value(right: str, none: str | None = None) -> Callable[[Asked], str | None]:
    """The right side of a check, for what is asked. None: the target has not what it names;
    ``none`` is how it says None."""
    pieces = list(_PIECE.finditer(right))
    if any(piece["bad"] for piece in pieces):
        raise RuleError(f"{right!r}: what the image has is named like %(owner)s")

    def value(asked: Asked) -> str | None:
        whole = ""
        for name, text in parts:
            found = text if name is None else asked.target.get(name, _MISSING)
            if found is None:
                found = none
            if found is None or found is _MISSING:
                return None
            whole += str(found)
        return whole

    parts = [(piece["name"], piece["text"] or "%") for piece in pieces]
    return value


def _all(checks: Sequence[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def every(asked: Asked) -> bool:
        for check in checks:  # noqa: SIM110 (a generator would cost more than the checks)
            if not check(asked):
                return False
        return True

    return every


def _any(checks: Sequence[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def some(asked: Asked) -> bool:
        for check in checks:  # noqa: SIM110
            if check(asked):
                return True
        return False

    return some


def _anybody(asked: Asked) -> bool:
    return True


def _nobody(asked: Asked) -> bool:
    return False
