"""The policy file: rules that replace built-in ones of their names. It is read again when it has
changed; one that cannot be used changes nothing.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml
from multidict import MultiMapping

from tidegate.domain.policy import Caller, Policy, Rule
from tidegate.domain.protections import ProtectionError, Protections
from tidegate.domain.rule_texts import ELSEWHERE, TEXTS
from tidegate.domain.rules import RuleError, Text, compiled, nearest, references
from tidegate.identity.base import Address, Identity, nowhere
from tidegate.settings import PolicySettings, SettingsError
from tidegate.telemetry import log

LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""


class PolicyFileError(SettingsError):
    """The file cannot be used; one line."""


class Judged:
    """Callers, who are administrators or not as the policy has it."""

    def __init__(self, identity: Identity, policy: Policy) -> None:
        self._identity = identity
        self._policy = policy

    async def caller(
        self,
        headers: MultiMapping[str],
        method: str = "",
        path: str = "",
        address: Address = nowhere,
    ) -> Caller:
        return self._policy.judged(await self._identity.caller(headers, method, path, address))


class PolicyFile:
    """Keeps a policy as its file says; a job."""

    name = "policy"
    every = LOOK_EVERY

    def __init__(self, path: Path, policy: Policy) -> None:
        self._path = path
        self._policy = policy
        self._seen: object = None

    async def open(self) -> None:
        """PolicyFileError."""
        self._seen = await asyncio.to_thread(_bytes, self._path)
        rules, idle = await asyncio.to_thread(_load, self._path)
        self._adopt(rules, idle)

    async def once(self) -> int:
        seen = await asyncio.to_thread(_bytes, self._path)
        if seen != self._seen:
            self._seen = seen
            try:
                rules, idle = await asyncio.to_thread(_load, self._path)
            except PolicyFileError as error:
                log.error("policy not read again", error=str(error))
            else:
                self._adopt(rules, idle)
                log.info("policy read again")
        return 0

    def _adopt(self, rules: Mapping[str, Rule], idle: list[str]) -> None:
        self._policy.adopt(rules)
        if idle:
            log.warning("rules of the policy file guard nothing here", rules=idle)


def read(path: Path) -> dict[str, Text]:
    """The file's rules, which are sound. PolicyFileError."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Text], list[str]]:
    """And the names of Glance's that guard nothing here, whose rules are not looked at."""
    lines, texts = _parse(path)
    elsewhere = [name for name in texts if name not in TEXTS and ELSEWHERE.fullmatch(name)]
    idle = {name: texts.pop(name) for name in elsewhere}
    used = set[str]()
    for text in idle.values():
        with suppress(RuleError):
            used |= references(text)
    try:
        compiled(texts)
        used = used.union(*map(references, texts.values()))
    except RuleError as error:
        where = f"{path}, line {lines[error.rule]}" if error.rule in lines else str(path)
        raise PolicyFileError(f"{where}: {error}") from None
    for name in texts:
        if name not in TEXTS and name not in used:
            hint = nearest(name, TEXTS)
            raise PolicyFileError(
                f"{path}, line {lines[name]}: {name}: nothing asks such a rule{hint}"
            )
    return texts, list(idle)


async def read_protections(settings: PolicySettings) -> Protections | None:
    """None: none are set. PolicyFileError."""
    if not settings.property_protections:
        return None
    path = Path(settings.property_protections)
    try:
        return Protections(await asyncio.to_thread(path.read_text, encoding="utf-8"))
    except OSError as error:
        raise PolicyFileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyFileError(f"cannot read {path}: it is not UTF-8") from error
    except ProtectionError as error:
        raise PolicyFileError(f"{path}: {error}") from error


def _load(path: Path) -> tuple[dict[str, Rule], list[str]]:
    texts, idle = _read(path)
    return compiled(texts), idle


def _bytes(path: Path) -> object:
    """Another value after each change of the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        return error.errno


def _parse(path: Path) -> tuple[dict[str, int], dict[str, Text]]:
    """The lines and the texts of the rules, by name."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise PolicyFileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyFileError(f"cannot read {path}: it is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PolicyFileError(f"{path}{line}: {error.problem or 'it is not YAML'}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise PolicyFileError(f"{path}: it is not YAML") from error
    if root is None:
        return {}, {}
    if not isinstance(root, yaml.MappingNode):
        raise PolicyFileError(f"{path}: it must be names of rules, each with a rule")
    lines: dict[str, int] = {}
    texts: dict[str, Text] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        text = _text(value)
        if text is None or not name:
            raise PolicyFileError(
                f"{path}, line {line}: {name}: a rule is a text in quotation marks,"
                ' like "role:admin"; "@" is everybody, "!" is nobody'
            )
        if name in texts:
            raise PolicyFileError(f"{path}, line {line}: {name}: it stands there twice")
        lines[name], texts[name] = line, text
    return lines, texts


def _text(node: yaml.Node) -> Text | None:
    """None: it is none. An empty one, which allows everybody, must be written so on purpose."""
    if isinstance(node, yaml.ScalarNode):
        meant = node.value.strip() or (node.style and not node.value)
        return str(node.value) if meant and node.tag == "tag:yaml.org,2002:str" else None
    if not isinstance(node, yaml.SequenceNode):
        return None
    found: list[str | list[str]] = []
    for inner in node.value:
        words = inner.value if isinstance(inner, yaml.SequenceNode) else [inner]
        texts = [word.value for word in words if isinstance(word, yaml.ScalarNode)]
        if len(texts) < len(words):
            return None
        found.append(texts)
    return found
