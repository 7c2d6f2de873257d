"""What a value is, told by its content: the same on another day and in another process."""

import copyreg
import functools
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np

__all__ = ["content_hash"]

_PLAIN = (type(None), bool, float, complex, str, type(...), type(NotImplemented))


def content_hash(value: Any) -> str:
    """A hash of all that a value is made of: equal for what was made alike, different for what differs anywhere.

    An array counts by its dtype, shape and numbers, a function by its name, source, defaults and what it encloses, a
    partial by its function and arguments, any other object by its class, by the source of that if it can be called, and
    by what pickle would keep of it. What is installed (Python's own, funcnn's, a package's) counts by its name, without
    its source. What a function calls does not count, nor does any address in memory.

    >>> content_hash(np.zeros(5000)) == content_hash(np.zeros(5000)) != content_hash(np.zeros(5001))
    True

    Raises TypeError, naming the part, for what has more to it than its content: an open file, a lock, a generator.
    """
    try:
        return _Hasher().of(value, type(value).__name__).hex()
    except RecursionError:
        raise TypeError(f"{type(value).__name__}: nested too deeply to be told by its content") from None


class _Hasher:
    """Digests of values, each made once: `where` is the way to a value, for messages."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, bytes]] = {}  # with the value, so that no other gets its id
        self.within: dict[int, int] = {}  # the values that are being looked into, by how deep they lie

    def of(self, value: Any, where: str) -> bytes:
        kind = type(value)
        if kind in _PLAIN:
            return _digest([kind.__name__, repr(value)])
        if kind in (int, bytes, bytearray):
            return _digest([kind.__name__, hex(value) if kind is int else bytes(value)])
        if id(value) in self.known:
            return self.known[id(value)][1]
        if id(value) in self.within:  # it holds itself
            return _digest(["again", str(len(self.within) - self.within[id(value)])])
        self.within[id(value)] = len(self.within)
        digest = _digest(self._parts(value, where))
        del self.within[id(value)]
        self.known[id(value)] = value, digest
        return digest

    def _all(self, values: Iterable[Any], where: str) -> Iterator[bytes]:
        return (self.of(each, f"{where}[{i}]") for i, each in enumerate(values))

    def _named(self, values: dict[Any, Any] | None, where: str) -> Iterator[str | bytes]:
        """Attributes or keywords, whose order means nothing."""
        for name in sorted(values or {}, key=str):
            yield str(name)
            yield self.of(values[name], f"{where}.{name}")  # type: ignore[index]

    def _parts(self, value: Any, where: str) -> Iterator[str | bytes]:
        kind = type(value)
        yield kind.__name__
        if kind in (list, tuple):
            yield from self._all(value, where)
        elif kind is dict:
            for key, each in value.items():
                yield self.of(key, f"a key of {where}")
                yield self.of(each, f"{where}[{key!r}]")
        elif kind in (set, frozenset):
            yield from sorted(self._all(value, where))
        elif kind in (np.ndarray, np.memmap):
            yield from self._array(value, where)
        elif kind is functools.partial:
            yield self.of(value.func, f"{where}.func")
            yield self.of(value.args, f"{where}.args")
            yield from self._named(value.keywords, where)
        elif kind is types.FunctionType:
            yield from self._function(value, where)
        elif kind is types.MethodType:
            yield self.of(value.__func__, where)
            yield self.of(value.__self__, f"{where}.__self__")
        elif kind is types.CodeType:
            names = (value.co_names, value.co_varnames, value.co_freevars)
            yield self.of((value.co_code, value.co_consts, names), where)
        elif kind is types.ModuleType:
            yield value.__name__
        elif kind in (classmethod, staticmethod):
            yield self.of(value.__func__, where)
        elif kind is property:
            yield self.of((value.fget, value.fset, value.fdel), where)
        elif isinstance(value, type):
            yield from self._class(value, where)
        else:
            yield from self._object(value, where)

    def _array(self, value: Any, where: str) -> Iterator[str | bytes]:
        yield f"{value.dtype.str} {value.shape}"
        if value.dtype.names:  # what lies between the fields is no content
            yield from self._named({name: value[name] for name in value.dtype.names}, where)
        elif value.dtype.hasobject:
            yield from self._all(value.ravel().tolist(), where)
        elif value.size and value.dtype.itemsize:
            yield sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).digest()

    def _function(self, value: types.FunctionType, where: str) -> Iterator[str | bytes]:
        yield _name(value)
        if not _installed(value.__module__) or "<lambda>" in value.__qualname__:
            yield _source(value.__code__) or self.of(value.__code__, where)
        if "<lambda>" in value.__qualname__:  # there may be two on a line
            yield self.of(value.__code__, where)
        yield self.of(value.__defaults__, f"{where}.__defaults__")
        yield from self._named(value.__kwdefaults__, where)
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield self.of(cell.cell_contents, f"{where}.{name}")
            except ValueError:  # it has no value yet
                yield "empty"

    def _class(self, value: type, where: str) -> Iterator[str | bytes]:
        whole = any("__call__" in vars(each) for each in value.__mro__)  # what its instances do is in its source
        for each in value.__mro__:
            yield _name(each)
            if whole and not _installed(each.__module__):
                members = {name: member for name, member in vars(each).items() if _is_written(name, member)}
                source = _source(each)
                # Of a class that was typed in, Python 3.13 gives the lines of whatever file is the program's.
                is_its = f"class {each.__name__}" in source
                yield source if is_its else b"".join(map(_bytes, self._named(members, where)))

    def _object(self, value: Any, where: str) -> Iterator[str | bytes]:
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception as error:
            raise TypeError(f"{where}: a {type(value).__name__} cannot be told by its content ({error})") from None
        if isinstance(reduced, str):  # the name by which a module knows it
            yield f"{getattr(value, '__module__', '')}.{reduced}"
        else:
            make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
            yield self.of(make, where)
            yield self.of(arguments, where)
            states = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
            for each in states:
                if isinstance(each, dict):
                    yield from self._named(each, where)
                else:
                    yield self.of(each, where)
            yield from self._all(items or (), where)
            yield from self._all(pairs or (), where)
        if hasattr(value, "__wrapped__"):  # of a cache around a function, say, only the name is pickled
            yield self.of(value.__wrapped__, f"{where}.__wrapped__")


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")


def _digest(parts: Iterable[str | bytes]) -> bytes:
    whole = sha256()
    for part in map(_bytes, parts):
        whole.update(b"%d:" % len(part) + part)
    return whole.digest()


def _name(value: Any) -> str:
    module = value.__module__ or ""
    return f"{'__main__' if module == '__mp_main__' else module}.{value.__qualname__}"


def _is_written(name: str, member: Any) -> bool:
    """Whether a member of a class is from its source, and not what Python adds to it."""
    return isinstance(member, (types.FunctionType, classmethod, staticmethod, property)) or not (
        name.startswith("__") or isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType))
    )


def _source(value: Any) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):  # typed into an interpreter, or no Python
        return ""


@functools.cache
def _installed(module: str | None) -> bool:
    """Whether a module is Python's own, funcnn's, or of an installed package."""
    if module in (None, "__main__", "__mp_main__"):  # a script, even where a package starts it
        return False
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "funcnn":
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    folders = {os.path.join(sysconfig.get_path(name), "") for name in ("purelib", "platlib")}
    return os.path.abspath(file).startswith(tuple(folders))
