import base64
import collections
import dataclasses
import datetime
import enum
import json
import pathlib
import unittest
import uuid

from warpket_harness.encode import NotEncodable, dumps


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: object


def decoded(value):
    return json.loads(dumps(value))


class EncodeTest(unittest.TestCase):
    def test_values_become_json(self):
        Pair = collections.namedtuple("Pair", "a b")
        date = datetime.datetime(2026, 1, 2, 3, 4, 5)
        some_id = uuid.UUID(int=1)
        cases = [
            (None, None),
            ({"a": [1, 2.5, "x", True, None]}, {"a": [1, 2.5, "x", True, None]}),
            ((1, (2,)), [1, [2]]),
            ({3, 1, 2}, [1, 2, 3]),
            (frozenset(["b", "a"]), ["a", "b"]),
            (Color.RED, "red"),
            (Level.LOW, 1),
            (Pair(1, 2), [1, 2]),
            (collections.OrderedDict(b=1), {"b": 1}),
            (collections.Counter("aab"), {"a": 2, "b": 1}),
            (Point(1, [Point(2, None)]), {"x": 1, "y": [{"x": 2, "y": None}]}),
            (date, "2026-01-02T03:04:05"),
            (date.date(), "2026-01-02"),
            (datetime.timedelta(seconds=1.5), 1.5),
            (some_id, str(some_id)),
            (1 + 2j, {"__type__": "complex", "re": 1.0, "im": 2.0}),
            (2**53, 2**53),
            (2**53 + 1, {"__type__": "int", "value": "9007199254740993"}),
            (-(2**70), {"__type__": "int", "value": str(-(2**70))}),
            (float("nan"), {"__type__": "float", "value": "nan"}),
            (float("-inf"), {"__type__": "float", "value": "-inf"}),
            (b"\x00x", {"__type__": "bytes", "b64": base64.b64encode(b"\x00x").decode()}),
            ({None: "b", True: "c"}, {"true": "c", "null": "b"}),
            ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
            ({Color.RED: 1}, {"red": 1}),
        ]
        for value, want in cases:
            with self.subTest(value=repr(value)):
                self.assertEqual(decoded(value), want)

    def test_what_has_no_json_form_is_named_with_its_place(self):
        cases = [
            (object(), "result is a object, which has no JSON form"),
            ({"a": [1, 2, object()]}, "result['a'][2] is a object"),
            (
                {"p": Point(1, {"q": print})},
                "result['p']['y']['q'] is a builtin_function_or_method",
            ),
            (pathlib.PurePosixPath("x"), "PurePosixPath, which has no JSON form"),
            ({(1, 2): 3}, "result has a key of type tuple"),
            ({"1": 0, 1: 0}, "result has two keys that are both '1'"),
            ((n for n in range(2)), "result is a generator"),
        ]
        for value, want in cases:
            with self.subTest(want=want), self.assertRaises(NotEncodable) as caught:
                dumps(value)
            self.assertIn(want, str(caught.exception))

    def test_a_value_that_holds_itself_is_refused(self):
        value = []
        value.append(value)
        with self.assertRaisesRegex(NotEncodable, r"result\[0\].*nested deeper than 200"):
            dumps(value)

    def test_text_of_any_kind_is_valid_utf8(self):
        self.assertEqual(decoded("\ud800\u00e9\u4f60"), "\ud800\u00e9\u4f60")

    def test_an_integer_of_many_digits_is_given(self):
        self.assertIn(decoded(10**5000)["value"], (str(hex(10**5000)), "1" + "0" * 5000))


if __name__ == "__main__":
    unittest.main()
