"""What schemathesis makes up that is not meant."""

import os

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode


def has_null(value):
    if isinstance(value, dict):
        return any(v is None or has_null(v) for v in value.values())
    return isinstance(value, list) and any(has_null(v) for v in value)


@schemathesis.hook
def filter_case(context, case):
    """Leave out what is not as wrong as it is said to be.

    An optional property of a body that is null is taken for one that was left
    out, as many clients send it. A schema could say so only by a type for each
    property that makes every generated client worse.

    A path that is made wrong becomes right again where the configuration says
    what things there are; the run without these tries wrong ones.
    """
    if case.meta is None or case.meta.generation.mode != GenerationMode.NEGATIVE:
        return True
    wrong = {
        where
        for where, part in case.meta.components.items()
        if part.mode == GenerationMode.NEGATIVE
    }
    if wrong == {ParameterLocation.PATH} and os.environ.get("WARPKET_THINGS"):
        return False
    return not has_null(case.body)
