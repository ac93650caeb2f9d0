"""YAML 1.1, read and written by PyYAML's safe half; by libyaml where PyYAML was built with it.

What both parsers accept, they read alike; libyaml also accepts a few oddities, such as a tab between two tokens.
hotconf refuses more than PyYAML: keys that are given twice, tags other than those of plain values, and, before anything
is built, documents nested deeper than MAX_DEPTH or with more than MAX_NODES nodes, where an alias counts as all that it
repeats. That bounds the time of a reload, and the depth and size of the values. A document without anchors, aliases and
tags is composed by libyaml, in half the time, and looked through; where that finds a flaw, the careful way names it.

A key that is no string, such as 8080 or `on`, which is true, becomes a Key: its text as it is written, and the key.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import yaml
from yaml import AliasEvent, MappingNode, MarkedYAMLError, Node, SafeLoader, ScalarNode, SequenceNode, YAMLError
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.reader import Reader

from hotconf.errors import FormatError
from hotconf.formats import MAX_DEPTH, error_at, escaped, not_a_mapping
from hotconf.values.keypath import Key, distinct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.values.keypath import KeyPath

MAX_NODES: Final = 300_000  # a hundred thousand keys in sections, and about two seconds' work
MAX_DIRECTIVES: Final = 100  # libyaml compares each tag directive with all others, and no signal is heard meanwhile
MAX_NUMBER: Final = 3570  # characters: what Python writes of an integer, 4300 digits, in base 16; base 60 takes fewer

_NOT_PLAIN: Final = re.compile(r"^%|(?<![^\s\[\]{},:?-])[&*!](?!\s)", re.MULTILINE)
"""What may be an anchor, an alias, a tag or a directive."""
_DIRECTIVE: Final = re.compile(r"^%TAG", re.MULTILINE)
_TOO_DEEP: Final = "nested too deeply"

_CORE: Final = "tag:yaml.org,2002:"
_MERGE: Final = _CORE + "merge"
_STR: Final = _CORE + "str"
_TYPED: Final = frozenset(_CORE + name for name in ("bool", "int", "float", "timestamp", "binary"))
_TEXT: Final = frozenset({_STR, _MERGE, _CORE + "value"})  # `<<` and `=` have tags of their own, but as values are text
_TAGS: Final = {
    ScalarNode: _TEXT | _TYPED | {_CORE + "null"},
    SequenceNode: frozenset({_CORE + "seq"}),
    MappingNode: frozenset({_CORE + "map"}),
}
_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ConstructorError)

# PyYAML quotes either a token of the grammar, such as ',' or '<scalar>', which may stay, or the text of the document.
_QUOTATION: Final = re.compile(r"( ?['\"](?:[\[\]{},:?! -]|<[a-z ]+>)['\"])| ?b?(['\"]).*\2")


class _Checker:
    """Knows which nodes are refused, and constructs from the others. A loader adds a composer and a constructor."""

    def _check(self, node: Node) -> None:
        """Raise for a tag, a number or a key that is refused."""
        if node.tag not in _TAGS[type(node)]:
            raise _flaw("this tag is not supported", node.start_mark)
        if node.tag == _CORE + "int" and len(node.value) > MAX_NUMBER:
            raise _flaw("a number that is too long", node.start_mark)
        if isinstance(node, MappingNode):
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, ScalarNode):
                    raise _flaw("a key must be a single value, not a list or a mapping", key.start_mark)
                value = (_MERGE,) if key.tag == _MERGE else self.key(key)
                if value in seen:
                    raise _flaw("duplicate key", key.start_mark)
                seen.add(value)

    def accepts(self, root: Node) -> bool:
        """Whether no node of a document is refused. Its depth is bounded by the parser."""
        level = [root]
        for _ in range(MAX_DEPTH + 2):
            below: list[Node] = []
            for node in level:
                if not (type(node) is ScalarNode and node.tag == _STR):
                    self._check(node)
                    if type(node) is MappingNode:
                        for pair in node.value:
                            below += pair
                    elif type(node) is SequenceNode:
                        below += node.value
            if not below:
                return True
            level = below
        return False

    def key(self: Any, node: ScalarNode) -> Any:
        """Return the key that a node stands for."""
        return node.value if node.tag in _TEXT else self.construct_object(node)

    def keys(self, node: MappingNode) -> dict[Any, str]:
        """Return how values and paths have each key of a mapping whose merges are resolved."""
        found = ((self.key(key), key.value) for key, _ in node.value)
        return distinct({key: text if isinstance(key, str) else Key(text, key) for key, text in found})

    def _construct_map(self: Any, node: MappingNode) -> Iterator[dict[str, Any]]:
        """Construct a mapping with texts as its keys, empty at first: PyYAML fills it later."""
        values: dict[str, Any] = {}
        yield values
        constructed = self.construct_mapping(node)
        if not {str}.issuperset(map(type, constructed)):
            keys = self.keys(node)
            constructed = {keys[key]: value for key, value in constructed.items()}
        values.update(constructed)

    def _construct_typed(self: Any, node: ScalarNode) -> Any:
        """Construct a scalar whose text may not be what its tag says."""
        try:
            return SafeConstructor.yaml_constructors[node.tag](self, node)
        except _UNREADABLE:
            raise _flaw(f"not a valid {node.tag.removeprefix(_CORE)}", node.start_mark) from None

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        **SafeConstructor.yaml_constructors,
        _CORE + "map": _construct_map,
        **dict.fromkeys(_TYPED, _construct_typed),
        **dict.fromkeys(_TEXT, SafeConstructor.construct_yaml_str),
    }


class _BoundedComposer(_Checker, Composer):
    """Composes within the bounds. A loader adds the parser that delivers the events.

    `item_offsets` holds where each item of a sequence begins, by the id of its node: the node of an alias knows only
    where its anchor is.
    """

    if TYPE_CHECKING:

        def peek_event(self) -> Any: ...  # the type stubs give an event neither an anchor nor a sure mark

    def __init__(self) -> None:
        Composer.__init__(self)
        self.item_offsets: dict[int, list[int]] = {}
        self._depth = 0
        self._count = 0
        self._sizes: dict[str, int] = {}  # nodes below each finished anchor

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        if isinstance(parent, SequenceNode):
            self.item_offsets.setdefault(id(parent), []).append(event.start_mark.index)
        if isinstance(event, AliasEvent):
            node = self._compose_alias(event, parent, index)
            if node is not None and isinstance(parent, MappingNode) and index is None:
                node = copy.copy(node)
                node.start_mark = event.start_mark  # a key stands where its alias does
            return node
        if event.anchor in self.anchors:
            raise _flaw("duplicate anchor", event.start_mark)
        before = self._count
        self._count_nodes(1, event)
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:  # the scalars within the deepest mapping are one more
            raise _flaw(_TOO_DEEP, event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._count - before
        if node is not None:
            self._check(node)
        return node

    def _compose_alias(self, event: AliasEvent, parent: Node | None, index: Any) -> Node | None:
        if event.anchor in self._sizes:
            self._count_nodes(self._sizes[event.anchor], event)
        elif event.anchor in self.anchors:
            raise _flaw("an alias stands inside of what it names", event.start_mark)
        return super().compose_node(parent, index)

    def _count_nodes(self, number: int, event: Any) -> None:
        self._count += number
        if self._count > MAX_NODES:
            raise _flaw(f"more than {MAX_NODES} values, counting what aliases repeat", event.start_mark)


class PurePythonLoader(_BoundedComposer, SafeLoader):
    """Reads without libyaml, some ten times slower."""

    def __init__(self, text: str) -> None:
        SafeLoader.__init__(self, text)
        _BoundedComposer.__init__(self)


if TYPE_CHECKING or hasattr(yaml, "CSafeLoader"):
    from yaml import CSafeDumper as SafeDumper, CSafeLoader
    from yaml._yaml import get_version

    # An older libyaml bounds no nesting, and a deep document ends the process: its composer recurses in C.
    COMPOSES_IN_C = get_version() >= (0, 2, 6)

    class Loader(_BoundedComposer, CSafeLoader):
        """Reads with libyaml."""

        def __init__(self, text: str) -> None:
            CSafeLoader.__init__(self, text)
            _BoundedComposer.__init__(self)

    class PlainLoader(_Checker, CSafeLoader):
        """Reads with libyaml, which composes too, documents without anchors, aliases and tags."""

else:
    from yaml import SafeDumper

    COMPOSES_IN_C = False
    Loader = PlainLoader = PurePythonLoader


class _Dumper(SafeDumper):
    """Writes a value that occurs twice in full both times, without anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the name is PyYAML's
        return True

    def represent_data(self, data: object) -> Node:
        if not isinstance(data, Key):
            return super().represent_data(dict(data) if isinstance(data, Mapping) else data)
        node = super().represent_data(data.value)
        # As it was written: `on` means the same as `true`, and more to a reader.
        resolved: str = cast("Any", self).resolve(ScalarNode, str(data), (True, False))
        return ScalarNode(node.tag, str(data)) if resolved == node.tag else node


def parse(text: str) -> dict[str, Any]:
    """Return the document's mapping, merge keys resolved; the empty document and null are empty. Raises FormatError."""
    control = Reader.NON_PRINTABLE.search(text)
    if control is not None:  # both parsers refuse it, but only one tells where it is
        raise error_at(text, control.start(), "a control character: write it as an escape in double quotes")
    beyond = next(islice(_DIRECTIVE.finditer(text), MAX_DIRECTIVES, None), None)
    if beyond is not None:
        raise error_at(text, beyond.start(), f"more than {MAX_DIRECTIVES} tag directives")
    try:
        loader, root = _composed(text)
        values: Any = loader.construct_document(root) if root is not None else None
    except MarkedYAMLError as error:
        raise _syntax_error(text, error) from None
    except YAMLError:
        raise FormatError("not valid YAML") from None
    except RecursionError:
        raise FormatError(_TOO_DEEP) from None
    if root is None or values is None:
        return {}
    if not isinstance(values, dict):
        raise not_a_mapping(text, _offset(root), values)
    return values


def places(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and offset of every key and list item of a valid document.

    A key that came by a merge, and whatever an alias repeats, stands where it is written.
    """
    loader, root = _composed(text)
    offsets = getattr(loader, "item_offsets", {})
    waiting: list[tuple[KeyPath, Node | None]] = [((), root)]
    while waiting:
        parent, node = waiting.pop()
        children: dict[str | int, tuple[int, Node]] = {}
        if isinstance(node, MappingNode):
            loader.flatten_mapping(node)  # merged pairs come first, so the mapping's own replace them
            keys = loader.keys(node)
            children.update((keys[loader.key(key)], (_offset(key), value)) for key, value in node.value)
        elif isinstance(node, SequenceNode):
            found = offsets.get(id(node)) or map(_offset, node.value)
            children.update(enumerate(zip(found, node.value, strict=True)))
        for key, (offset, child) in children.items():
            yield (*parent, key), offset
            waiting.append(((*parent, key), child))


def dump(values: Mapping[str, Any]) -> str:
    """Return the values as block-style YAML, in their own order. Raises FormatError for what YAML has no type for."""
    try:
        text = str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
        if escaped(text) == text:
            return text
        # Only double-quoted strings have escapes: PyYAML writes those of other scripts in them too, then.
        return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=False))
    except (YAMLError, RecursionError):
        raise FormatError("YAML cannot hold these values: it has no other types than its own") from None


def _composed(text: str) -> tuple[Loader | PlainLoader, Node | None]:
    """Return the root of a document, None for an empty one, and the loader that constructs from it.

    Raises YAMLError for what is refused.
    """
    if COMPOSES_IN_C and not _NOT_PLAIN.search(text) and _most_nodes(text) <= MAX_NODES:
        plain = PlainLoader(text)
        try:
            root = plain.get_single_node()
            if root is None or plain.accepts(root):
                return plain, root
        except YAMLError:
            pass
    loader = Loader(text)
    return loader, loader.get_single_node()


def _most_nodes(text: str) -> int:
    """Return a number that grows with the nodes of a document, without a look at its structure."""
    return sum(map(text.count, ("\n", ",", "[", "{", "- ", "? ")))


def _offset(node: Node) -> int:
    return int(node.start_mark.index)


def _flaw(reason: str, mark: Any) -> MarkedYAMLError:
    return MarkedYAMLError(None, None, reason, mark)


def _syntax_error(text: str, error: MarkedYAMLError) -> FormatError:
    """Return the error of PyYAML in the words of hotconf where it has some, and without quotations from the text."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not valid YAML"
    if mark is None:
        return FormatError(_QUOTATION.sub(r"\1", problem))
    if text.startswith("\t", mark.index):
        problem = "a tab cannot indent or separate here: use spaces"
    elif "another document" in problem:
        problem = "a second document begins here: a configuration is one"
    elif "nesting" in problem:  # libyaml reads ahead of the composer and has a bound of its own
        problem = _TOO_DEEP
    return error_at(text, mark.index, _QUOTATION.sub(r"\1", problem))
