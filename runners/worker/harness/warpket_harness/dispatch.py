"""Finds a function's handler and decides from its signature how to call it."""

import importlib
import inspect

from .failures import Failed

_CONTEXT_NAMES = ("context", "ctx")


def load(entry):
    """Imports the entry "module.function" and returns it as call(event, context)."""
    module_name, _, name = entry.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise Failed(
            "import_failed",
            f"there is no {module_name}.py among the function's files,"
            f" which the entry {entry} names",
        ) from None
    handler = getattr(module, name, None)
    if not callable(handler):
        raise Failed("no_entry", f"{module_name}.py has no function {name}{_has(module)}")
    return bind(handler)


def _has(module):
    own = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    ]
    return "; it has " + ", ".join(own[:10]) if own else ""


def bind(handler):
    """The handler as call(event, context), whatever its own parameters are.

    handler(event, context) and handler(event) are called so. Any other
    parameters are taken by name from the event, and one named context gets
    the context. One that takes **any gets an event that is no object as its
    first parameter.
    """
    call = _bind(handler)
    if inspect.iscoroutinefunction(handler):
        import asyncio  # half of a worker's start, for the few that need it

        return lambda event, context: asyncio.run(call(event, context))
    return call


def _bind(handler):
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):  # some functions written in C do not tell
        return handler
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    second = positional[1] if len(positional) > 1 else None
    takes_context = second is not None and (
        second.name in _CONTEXT_NAMES or (positional[0].name == "event" and _required(second))
    )
    if not parameters:
        return lambda event, context: handler()
    takes_two = len(positional) == 2 and not any(p.kind is p.VAR_KEYWORD for p in parameters)
    if takes_context and (positional[0].name == "event" or takes_two):
        return handler
    if positional and positional[0].name == "event":
        return lambda event, context: handler(event)
    return _by_name(handler, parameters)


def _by_name(handler, parameters):
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    wants_context = [p.name for p in named if p.name in _CONTEXT_NAMES]
    known = {p.name for p in named} - set(wants_context)
    needed = [p.name for p in named if _required(p) and p.name in known]
    firsts = [p.name for p in named if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in known]

    def call(event, context):
        if not isinstance(event, dict) and takes_any and firsts:
            event = {firsts[0]: event}
        if not isinstance(event, dict):
            raise Failed(
                "bad_arguments",
                "the handler takes its parameters by name, so the input must be an object",
            )
        unknown = [] if takes_any else [name for name in event if name not in known]
        if unknown:
            takes = ", ".join(sorted(known)) or "none"
            raise Failed(
                "bad_arguments",
                f"the handler has no parameter {', '.join(unknown)}; its parameters: {takes}",
            )
        missing = [name for name in needed if name not in event]
        if missing:
            raise Failed("bad_arguments", f"the input lacks {', '.join(missing)}")
        arguments = dict(event)
        for name in wants_context:
            arguments[name] = context
        return handler(**arguments)

    return call


def _required(parameter):
    return parameter.default is parameter.empty
