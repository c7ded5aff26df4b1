import unittest

from warpket_harness.dispatch import bind
from warpket_harness.failures import Failed

CONTEXT = object()


def event_and_context(event, context):
    return event, context


def event_and_ctx(payload, ctx):
    return payload, ctx


def event_and_second(event, second):
    return event, second


def event_only(event):
    return event


def event_and_default(event, shots=7):
    return event, shots


def nothing():
    return "called"


def named(a, b=2, *, c=3):
    return a, b, c


def named_with_context(a, context):
    return a, context


def anything(**values):
    return values


def context_and_anything(context, **values):
    return context, values


def one_and_context(name, context=None, **values):
    return name, context, values


async def coroutine(event, context):
    return event, context


class BindTest(unittest.TestCase):
    def test_the_signature_decides_what_a_handler_gets(self):
        event = {"a": 1}
        cases = [
            (event_and_context, event, (event, CONTEXT)),
            (event_and_context, [1], ([1], CONTEXT)),
            (event_and_ctx, event, (event, CONTEXT)),
            (event_and_second, event, (event, CONTEXT)),
            (event_only, "text", "text"),
            (event_and_default, event, (event, 7)),
            (nothing, event, "called"),
            (named, event, (1, 2, 3)),
            (named, {"a": 1, "c": 9}, (1, 2, 9)),
            (anything, event, event),
            (context_and_anything, event, (CONTEXT, event)),
            (one_and_context, {"name": "foo", "b": 2}, ("foo", CONTEXT, {"b": 2})),
            (one_and_context, "foo", ("foo", CONTEXT, {})),
            (coroutine, event, (event, CONTEXT)),
            (lambda event, context: context, event, CONTEXT),
        ]
        for handler, given, want in cases:
            with self.subTest(handler=handler.__name__, given=given):
                self.assertEqual(bind(handler)(given, CONTEXT), want)

    def test_an_input_that_does_not_fit_is_refused(self):
        cases = [
            (named, {"a": 1, "z": 2}, "no parameter z; its parameters: a, b, c"),
            (named, {}, "the input lacks a"),
            (named, [1], "the input must be an object"),
            (anything, [1], "the input must be an object"),
        ]
        for handler, given, want in cases:
            with self.subTest(want=want), self.assertRaises(Failed) as caught:
                bind(handler)(given, CONTEXT)
            self.assertEqual(caught.exception.code, "bad_arguments")
            self.assertIn(want, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
