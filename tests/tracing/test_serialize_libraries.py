"""Values of libraries that this package does not import: arrays by shape and type, models by their fields."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hh_jupyter.values import flatten, plain, scalar
from tests.any_value import Array


def test_arrays_and_tensors_are_described_by_shape_and_type() -> None:
    """Tensors of Torch, JAX and others have the same attributes."""
    assert scalar(Array((2, 3))) == "<Array of shape (2, 3), float32>"
    assert flatten("key", {"a": Array((2,))}) == {"key.a": "<Array of shape (2,), float32>"}


def test_numbers_of_arrays_are_numbers() -> None:
    assert (scalar(Array(())), plain({"x": Array(())}), flatten("m", {"x": Array(())})) == (
        0.5,
        {"x": 0.5},
        {"m.x": 0.5},
    )


def test_an_object_that_only_has_a_shape_is_not_an_array() -> None:
    class Circle:
        shape = "round"

        def __str__(self) -> str:
            return "a circle"

    assert scalar(Circle()) == "a circle"


def test_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert scalar(numpy.zeros((2, 3), "f4")) == "<ndarray of shape (2, 3), float32>"
    values = {"f": numpy.float32(0.5), "d": numpy.float64(0.25), "i": numpy.int64(4), "b": numpy.bool_(True)}
    assert flatten("m", values) == {"m.f": 0.5, "m.d": 0.25, "m.i": 4, "m.b": True}
    assert {type(value) for value in flatten("m", values).values()} == {float, int, bool}
    assert scalar(numpy.str_("text")) == "text"
    assert scalar(numpy.datetime64("2024-01-02")) == "2024-01-02"


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [1, 2], "score": [0.5, 1.0]})
    assert scalar(frame) == "<DataFrame of shape (2, 2): id int64, score float64>"
    assert scalar(frame["score"]) == "<Series of shape (2,), float64>"
    assert scalar(pandas.Index([1, 2])) == "<Index of shape (2,), int64>"
    wide = pandas.DataFrame([[0] * 1_000])
    assert str(scalar(wide)).endswith(" and 980 more>")
    assert plain([pandas.Timestamp(0), pandas.NaT]) == ["1970-01-01T00:00:00", "NaT"]


def test_models_of_pydantic_2() -> None:
    pydantic: Any = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        number: int
        password: pydantic.SecretStr
        hidden: str = pydantic.Field("hidden", repr=False)
        _private: str = "private"

    assert plain([Model(number=1, password="pw", more="extra")]) == [
        {"number": 1, "password": "**********", "more": "extra"}
    ]


def test_models_of_pydantic_1() -> None:
    v1: Any = pytest.importorskip("pydantic.v1")

    class Model(v1.BaseModel):
        number: int
        inner: Any

    assert plain(Model(number=1, inner=Model(number=2, inner=None))) == {
        "number": 1,
        "inner": {"number": 2, "inner": None},
    }


def test_openai_responses() -> None:
    chat = pytest.importorskip("openai.types.chat")
    message = chat.ChatCompletionMessage(role="assistant", content="hi", reasoning="because")
    found = plain(message)
    assert (found["role"], found["content"], found["reasoning"]) == ("assistant", "hi", "because")


def test_classes_of_attrs() -> None:
    attrs = pytest.importorskip("attrs")

    class Plain:
        number: int
        hidden: str = attrs.field(default="hidden", repr=False)

    assert plain(attrs.define(Plain)(1)) == {"number": 1}


def test_no_library_is_imported_to_recognise_its_values() -> None:
    code = (
        "import sys; from hh_jupyter.values import flatten; flatten('k', [object(), 1j, {2}]);"
        "print(sorted({'numpy', 'pandas', 'pydantic', 'attr', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
