"""Construction: a settings class makes its own settings, and what its sources say is recorded on the way.

pydantic-settings constructs settings in two steps: it makes the sources of the class, then it asks them in their order
and merges what they say. Both steps are private names of BaseSettings, used in this file and in no other. Calling them
is what makes `HotConf(cls)` give what `cls()` gives: order, state, defaults and warnings are not done a second time.

Constructors that the class calls itself, its own `__init__` and those of settings classes in its fields, reach the same
two steps by themselves. For such a class, and only then, they are led through the construction under way.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel
from pydantic_settings import BaseSettings, InitSettingsSource
from pydantic_settings.sources import DefaultSettingsSource

from hotconf.errors import Rejected
from hotconf.schema.diff import differences
from hotconf.schema.fields import fields_of, models_within, suggest
from hotconf.values.layer import DEFAULT, Layer
from hotconf.values.merge import ABSENT, Merged, copied, lookup, merge, same, with_nested
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Outermost: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]

_MAKE, _BUILD = "_settings_init_sources", "_settings_build_values"
_OPTIONS = [
    name
    for name, parameter in inspect.signature(BaseSettings.__init__).parameters.items()
    if name.startswith("_") and parameter.default is not parameter.empty and name != "_build_sources"
]
_make_sources: Any = vars(BaseSettings)[_MAKE].__func__
_build_values: Any = vars(BaseSettings)[_BUILD].__func__


class Asked:
    """A source of pydantic-settings, and what it said.

    Where the source fails, the others are asked all the same, so that every fault is told at once. `options` are those
    of the constructor that asks.
    """

    def __init__(self, source: Any, options: Mapping[str, Any]) -> None:
        self.source = source
        self.options = options
        self.said: dict[str, Any] = {}
        self.error: Exception | None = None
        self.__name__: str = getattr(source, "__name__", type(source).__name__)

    # pydantic-settings tells a source of its own from a function, and the defaults from all others, by isinstance().
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __call__(self) -> dict[str, Any]:
        """Ask the source."""
        try:
            said = self.source()
            if not isinstance(said, Mapping):
                raise TypeError(f"returned {type(said).__name__} where a mapping is needed")  # noqa: TRY301
            self.said = dict(said)
        except Exception as error:  # noqa: BLE001 - the code of a source is foreign
            self.error = error
        return self.said


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What one constructor of a settings class asked.

    `options` are its constructor options, such as `_env_file`; `given` are the values that were passed to it; `sources`
    come the strongest first; `values` are what they say together.
    """

    cls: type[BaseSettings]
    options: Mapping[str, Any]
    given: Mapping[str, Any]
    sources: tuple[Asked, ...]
    values: dict[str, Any]

    @classmethod
    def of(cls, model: type[BaseSettings], options: Mapping[str, Any], given: Mapping[str, Any]) -> Record:
        """Make the sources of a class and ask them. Raises what making them raises."""
        sources, given = _make_sources(model, **options, _init_kwargs=dict(given))
        asked = tuple(Asked(source, options) for source in sources)
        return cls(model, options, given, asked, _build_values(model, asked, given))

    def values_with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the sources would say together with other values passed to the constructor. Asks none of them."""
        if same(given, self.given):
            return dict(copied(self.values))
        return dict(copied(_build_values(self.cls, tuple(_repeat(asked, given) for asked in self.sources), given)))


@dataclass(frozen=True, slots=True, eq=False)
class ClassReading:
    """What reading a class gave: its own record, the records of the constructors that it called, and its settings.

    `own` is None for a class without sources, `settings` where they are not valid yet. `defaults` tells which default
    objects were made again, by class and field. `errors` are what making sources raised, with the class of the sources.
    """

    own: Record | None
    called: Sequence[Record]
    settings: Any
    defaults: Mapping[tuple[type, str], bool]
    errors: Sequence[tuple[type, BaseException]]


def _repeat(asked: Asked, given: Mapping[str, Any]) -> Any:
    source = asked.source
    if isinstance(source, DefaultSettingsSource):
        return copy.copy(source)
    if type(source) is InitSettingsSource:
        partial = source.nested_model_default_partial_update
        return InitSettingsSource(source.settings_cls, dict(given), nested_model_default_partial_update=partial)
    return lambda: asked.said


class _Values(dict[str, Any]):
    """The values that a constructor is to have, handed to its second step by the first."""


class Construction:
    """One construction of settings, with every constructor of a settings class that is called on the way.

    The first call of the constructor of `model` gets its values from `outermost`, where that is given. Any other that
    is on record gets the values that it got then. One that is not asks its sources, and is on record from then on.
    `defaults` tells which default objects are made again, by class and field.
    """

    def __init__(
        self,
        model: type,
        outermost: Outermost | None,
        defaults: dict[tuple[type, str], bool],
        records: Iterable[Record] = (),
    ) -> None:
        self.records = list(records)
        self.errors: list[tuple[type, BaseException]] = []
        self._model = model
        self._outermost = outermost
        self._defaults = defaults
        self._made: list[tuple[str, Any]] = []

    def values(self, model: type[BaseSettings], options: Mapping[str, Any], given: Mapping[str, Any]) -> _Values:
        """Return the values of one constructor. Raises what making its sources raises, and keeps that in `errors`."""
        try:
            if self._outermost is not None and model is self._model:
                outermost, self._outermost = self._outermost, None
                return _Values(self.with_defaults(model, outermost(options, given)))
            alike = [record for record in self.records if record.cls is model and same(record.options, options)]
            exact = [record for record in alike if same(record.given, given)]
            if not alike:
                exact = [Record.of(model, options, given)]
                self.records += exact
            return _Values(self.with_defaults(model, (exact or alike)[0].values_with(given)))
        except BaseException as error:
            self.errors.append((model, error))
            raise

    def with_defaults(self, model: type, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with those default objects made again that are settings, and as old as the class.

        The first time shows whether one came from its sources alone: then the two are equal. Only such a one is made
        again from then on.
        """
        result = dict(values)
        for name, field in fields_of(model).items():
            default: Any = field.info.default
            is_set = any(lookup(values, path) is not ABSENT for path in field.input_paths)
            known = self._defaults.get((model, name))
            if is_set or known is False or not isinstance(default, BaseSettings):
                continue
            recorded, failed = len(self.records), len(self.errors)
            try:
                made = self.without_marks(type(default)())
            except Exception:
                if known is not None:
                    raise
                self._defaults[model, name] = False
                del self.records[recorded:], self.errors[failed:]
                continue
            equal = not differences(default, made) and default.model_fields_set == made.model_fields_set
            if not self._defaults.setdefault((model, name), equal):
                del self.records[recorded:]
                continue
            result[field.keys[0] if field.keys else name] = made
            self._made.append((name, made))
        return result

    def without_marks(self, settings: Any) -> Any:
        """Return settings after taking back that fields whose default objects were made again have been set."""
        if self._made and isinstance(settings, BaseModel):
            for name, value in vars(settings).items():
                if any(name == field and value is made for field, made in self._made):
                    settings.__pydantic_fields_set__.discard(name)
                self.without_marks(value)
        return settings


_under_way: ContextVar[Construction | None] = ContextVar("hotconf_construction", default=None)


def _take_part() -> None:
    """Lead both steps of every constructor through the construction under way, where there is one."""
    make, build = (vars(BaseSettings)[name].__func__ for name in (_MAKE, _BUILD))
    if hasattr(make, "within") and hasattr(build, "within"):
        return

    def make_sources(cls: type[BaseSettings], *, _init_kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
        construction = _under_way.get()
        if construction is None:
            return make(cls, **options, _init_kwargs=_init_kwargs)
        given = _init_kwargs or {}
        return construction.values(cls, options, given), given

    def build_values(cls: type[BaseSettings], sources: Any, init_kwargs: dict[str, Any]) -> Any:
        return dict(sources) if isinstance(sources, _Values) else build(cls, sources, init_kwargs)

    for name, step in ((_MAKE, make_sources), (_BUILD, build_values)):
        vars(step)["within"] = _under_way
        setattr(BaseSettings, name, classmethod(step))


class Constructor:
    """Makes the settings of one class, from layers.

    Args:
        model: The class.
        init: The values that its constructor is given.
        options: The constructor options that it is given, such as `_env_file`.
    """

    def __init__(
        self, model: type[BaseModel], init: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self.model = model
        given = copied(init or {})
        # As for the constructor itself, options may stand among the values.
        known = [name for name in _OPTIONS if name in given] if issubclass(model, BaseSettings) else []
        self.options = {**{name: given.pop(name) for name in known}, **(options or {})}
        self.init = given
        _check_options(model, self.options)
        self._own: Record | None = None
        self._default_objects: dict[tuple[type, str], bool] = {}
        self._own_init = issubclass(model, BaseSettings) and owner_of_init(model) is not BaseSettings
        nested = any(path and issubclass(cls, BaseSettings) for path, cls in models_within(model))
        self.calls_constructors = self._own_init or nested
        if self.calls_constructors:
            _take_part()

    def read(self, combine: Callable[[Record | None], Mapping[str, Any]]) -> ClassReading:
        """Ask every source of the class, and of the settings classes that it constructs, each once.

        Args:
            combine: Returns the values to construct from, of what the class's own sources said; None where it has none.

        Raises:
            BaseException: What making the class's own sources raises.
        """
        own: Record | None = None

        def outermost(options: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
            nonlocal own
            own = self._own = Record.of(cast("type[BaseSettings]", self.model), options, given)
            return combine(own) if self.calls_constructors else {}

        construction = Construction(self.model, outermost if self._own_init else None, self._default_objects)
        values: Mapping[str, Any] = {}
        if not self._own_init:
            values = outermost(self.options, self.init) if issubclass(self.model, BaseSettings) else combine(None)
        settings: Any = None
        if self.calls_constructors:
            try:
                settings = self._construct(construction, copied(values))
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - validation does the same again, and says what it was
                settings = None
        failed = [error for model, error in construction.errors if model is self.model and own is None]
        if failed:
            raise failed[0]
        return ClassReading(own, construction.records, settings, self._default_objects, construction.errors)

    def merge(self, layers: Sequence[Layer]) -> Merged:
        """Merge layers, the weakest first, with the default objects that the class lets be changed in part below them.

        A layer of a nested settings class stands below or above all that its constructor was given.
        """
        own = [layer for layer in layers if layer.nested is None]
        nested = [layer for layer in layers if layer.nested is not None]
        values = given = merge(own).values
        if self._own is not None:
            defaults, said = copy.copy(self._own.sources[-1].source), dict(values)
            if defaults.defaults:
                values = given = _build_values(self.model, (lambda: said, defaults), {})
                own.insert(0, Layer("default", defaults(), {(): DEFAULT}))
            # A validator that looks at its input finds the keys that were given, unless their values lie elsewhere.
            lifted = {path[0] for field in fields_of(self.model).values() for path in field.alias_paths}
            restored = {key: value for key, value in self._own.given.items() if key not in lifted}
            if not restored.keys() <= said.keys():
                given = _build_values(self.model, (lambda: said, defaults), restored)
        return with_nested(values, given, own, nested) if nested else Merged(values, tuple(own), given)

    def build(self, values: dict[str, Any], layers: Iterable[Layer]) -> Any:
        """Return settings made from the given values of merged layers. Asks no source that was asked for the layers.

        Raises:
            Rejected: A validator returned something else than what was made.
            BaseException: Whatever the class raises; ValidationError for values that are not valid.
        """
        if not self.calls_constructors:
            return self._validated(values)
        records = dict.fromkeys(layer.nested.record for layer in layers if layer.nested is not None)
        outermost = (lambda *_: values) if self._own_init else None
        construction = Construction(self.model, outermost, self._default_objects, records)
        return self._construct(construction, values)

    def _construct(self, construction: Construction, values: dict[str, Any]) -> Any:
        before = _under_way.set(construction)
        try:
            if self._own_init:
                settings: Any = self.model(**self.options, **copied(self.init))
            else:
                settings = self._validated(construction.with_defaults(self.model, values))
        finally:
            _under_way.reset(before)
        return construction.without_marks(settings)

    def _validated(self, values: dict[str, Any]) -> Any:
        model = self.model
        if not issubclass(model, BaseSettings):
            made: object = model.model_validate(values)
            if not isinstance(made, model):
                raise Rejected([Fault("", f"a validator of {model.__name__} returns no {model.__name__}")])
            # A validator may have returned a constant of the program.
            return made.model_copy() if model.__pydantic_decorators__.model_validators else made
        # BaseSettings.__init__ would ask the sources again; this is what BaseModel.__init__ does after it.
        settings: BaseModel = model.__new__(model)
        made = model.__pydantic_validator__.validate_python(values, self_instance=settings)
        if made is not settings:
            message = f"a validator of {model.__name__} returns another object than the one it was given"
            raise Rejected([Fault("", message)])
        return settings


def _check_options(model: type, options: Mapping[str, Any]) -> None:
    """Refuse constructor options that a class does not have. One that defines its constructor may have any."""
    if not options or (issubclass(model, BaseSettings) and owner_of_init(model) is not BaseSettings):
        return
    if not issubclass(model, BaseSettings):
        raise TypeError(f"settings_options: {model.__name__} is no BaseSettings: its constructor has no options")
    for name in options:
        if name not in _OPTIONS:
            raise TypeError(f"settings_options: {model.__name__} has no option {name!r}{suggest(name, _OPTIONS)}")


def owner_of_init(model: type) -> type:
    """Return the class that defines the constructor of a class."""
    return next(cls for cls in model.__mro__ if "__init__" in vars(cls))
