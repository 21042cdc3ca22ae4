from __future__ import annotations

import pytest

from snapcore.errors import InvalidArgument
from snapcore.filters import compile_filters, record_fields

THING = record_fields(
    {"name": "sha256:aa", "parent": "", "kind": "active"},
    {"a": "1", "a.b/c": 'say "hi"', "empty": "", "list": "x,y z", "tab": "a\tb", "é": "ü"},
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "name",
        "name==sha256:aa",
        'name=="sha256:aa"',
        '"name"==sha256:aa',
        " name == sha256:aa , kind == active ",
        "name!=x",
        "parent!=x",
        "name~=^sha256:",
        "name~=56",
        "name~=/^sha256:(aa|bb)$/",
        "name~=|^sha256:..$|",
        r"name~=|^x\|aa$|",
        r'name~="^sha256:\\w+$"',
        r"name~=/\w+:aa/",
        r'labels."a.b/c"~=|"hi"|',
        r'labels."a.b/c"~=/\/|hi/',
        'labels."a.b/c"=="say \\"hi\\""',
        "labels.a==1",
        "labels.a,labels.empty",
        'labels.empty==""',
        'labels.list=="x,y z"',
        'labels.tab=="a\\tb"',
        'labels.tab=="a\\x09b"',
        'labels."\\u00e9"=="\\U000000fc"',
        'labels."é"==ü',
        "labels.missing!=1",
        "labels.missing~=^$",
    ],
)
def test_matches(text: str) -> None:
    assert compile_filters([text])(THING)


@pytest.mark.parametrize(
    "text",
    [
        "parent",
        'parent==""',
        "labels.missing",
        "labels",
        "name.more",
        "name==sha256:a",
        "name!=sha256:aa",
        "name~=^aa",
        "name,kind==view",
        "labels.a==2",
        'labels.missing==""',
    ],
)
def test_does_not_match(text: str) -> None:
    assert not compile_filters([text])(THING)


def test_dotted_labels_need_no_quotes() -> None:
    fields = record_fields({}, {"a.b.c": "1"})
    assert compile_filters(["labels.a.b.c==1"])(fields)


def test_filters_are_alternatives() -> None:
    assert compile_filters([])(THING)
    assert compile_filters(["name==x", "kind==active"])(THING)
    assert not compile_filters(["name==x", "kind==view"])(THING)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        (",", 0, "field name"),
        ("name,", 5, "field name"),
        ("==x", 0, "field name"),
        ("name==", 6, "value"),
        ("name==,kind", 6, "value"),
        ("labels.==x", 7, "field name"),
        ("name=x", 4, "','"),
        ("name x", 5, "','"),
        ('name=="x', 6, "quote"),
        ('name=="x"y', 9, "','"),
        (r'name=="a\qb"', 8, "escape"),
        (r'name=="\UFFFFFFFF"', 7, "escape"),
        ("name~=(", 6, "regular expression"),
        ("name~=a{99999999999}", 6, "regular expression"),
        (f"name~={'(' * 5000}", 6, "regular expression"),
        ('name~="["', 6, "regular expression"),
        ("size==3", 0, "unknown field; there are kind, labels, name"),
    ],
)
def test_errors_name_filter_and_position(text: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        compile_filters(["name", text], known=("name", "kind", "labels"))
    message = str(caught.value)
    assert f"{text!r} at position {position}: " in message
    assert problem in message
