"""The source of a user's code: which files belong to it, what counts as a change, and that it is stored unchanged."""

import textwrap

import pytest

from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.experiment.references import refer
from resnetlab.experiment.source import Source, changed, defined, trace
from resnetlab.storage.results_folder import ResultsFolder


def put(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def source(*texts):
    return Source({f"study/{name}.py": textwrap.dedent(text) for name, text in zip("abc", texts, strict=False)})


def said(before, after):
    return [str(change) for change in changed(before, after)]


def traced(folder, file="net.py"):
    return trace(folder / file, [folder])


def names(found, folder):
    return {file.relative_to(folder).as_posix() for file in found.files}


NET = '''
    """A network."""
    import math
    from a import b

    WIDTH = 16
    RATE: float = 0.1

    def helper(x):
        return x + 1

    class Net:
        """Says what it is."""

        depth = 2

        def forward(self, x, *, gamma: float = 2.0):
            """Runs it."""
            # a comment
            return helper(x) * WIDTH

    if WIDTH > 3:
        WIDTH = 3
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ('"""Runs it."""\n', "\n"),
        ('"""A network."""', ""),
        ("return x + 1", "return (x\n        + 1)\n\n"),
        ("'''", '"""'),
    ],
)
def test_comments_layout_and_docstrings_do_not_count(old, new):
    before, after = source(NET), source(NET.replace(old, new))
    assert not changed(before, after) and before.hash == after.hash


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return x + 1", "return x + 2", "helper changed"),
        ("WIDTH = 16", "WIDTH = 17", "WIDTH changed"),
        ("float = 0.1", "float = 0.2", "RATE changed"),
        ("depth = 2", "depth = 3", "Net changed"),
        ("class Net:", "class Net(Base):", "Net changed"),
        ("helper(x) * WIDTH", "helper(x)", "Net.forward changed"),
        ("gamma: float = 2.0", "gamma: float = 1.0", "Net.forward changed"),
        ("gamma: float", "gamma: int", "Net.forward changed"),
        ("import math", "import math, cmath", "its imports changed"),
        ("WIDTH > 3", "WIDTH > 4", "its other statements changed"),
        ("def helper", "def helped", "helper removed"),
        ("0.1", "1e-1 + 0", "RATE changed"),
        ("= 16", "= 16.0", "WIDTH changed"),
        ("= 16", "= '16'", "WIDTH changed"),
    ],
)
def test_the_changed_definition_is_named(old, new, expected):
    before, after = source(NET), source(NET.replace(old, new))
    assert f"study/a.py: {expected}" in said(before, after) and before.hash != after.hash


def test_a_method_that_moves_to_another_class_or_order_is_a_change():
    one = source("X = 1\nY = X + 1\nX = 2")
    other = source("X = 1\nX = 2\nY = X + 1")
    assert said(one, other) == ["study/a.py: reordered"] and one.hash != other.hash
    assert said(source("A = 1"), source("A = 1\ndef f(): pass")) == ["study/a.py: f added"]


def test_an_added_and_a_removed_file_are_named():
    one, other = source("A = 1", "B = 1"), source("A = 1")
    assert said(one, other) == ["study/b.py: removed"] and said(other, one) == ["study/b.py: added"]


def test_a_text_that_no_python_reads_is_compared_as_text():
    assert said(source("def f(:"), source("def f(::")) == ["study/a.py: changed"]
    assert said(Source({"packages/x/version.txt": "1"}), Source({"packages/x/version.txt": "2"})) == [
        "packages/x/version.txt: changed"
    ]


def test_files_are_followed_through_every_form_of_import(tmp_path):
    put(
        tmp_path,
        net="""
            import one, os
            import sub.deep.two
            from three import x
            from sub import four
            try:
                import five
            except ImportError:
                five = None
            class Net:
                from six import y
        """,
        one="from sub.deep import seven", three="x = 1", five="", six="y = 1", unused="",
        sub__deep__two="from . import eight\nfrom ..four import z", sub__deep__seven="", sub__deep__eight="",
        sub__four="z = 1",
    )  # fmt: skip
    (tmp_path / "sub" / "__init__.py").write_text("import os")
    found = traced(tmp_path)
    assert names(found, tmp_path) == {
        "net.py", "one.py", "three.py", "five.py", "six.py", "sub/__init__.py", "sub/four.py", "sub/deep/two.py",
        "sub/deep/seven.py", "sub/deep/eight.py",
    }  # fmt: skip
    assert found.names == {"one", "three", "five", "six", "sub"}


def test_what_is_imported_from_elsewhere_or_never_is_not_followed(tmp_path):
    put(
        tmp_path,
        net="""
            import numpy as np
            from torch.nn import functional as F
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                import helper
            if __name__ == "__main__":
                import helper
            def f():
                import scipy
        """,
        helper="",
    )
    found = traced(tmp_path)
    assert names(found, tmp_path) == {"net.py"} and not found.names


def test_the_names_of_a_file_are_read_without_running_it(tmp_path):
    put(
        tmp_path,
        net="""
            import torch.nn, numpy as np
            if torch:
                def f(): inner = 1
            A, (B, C) = D = 1, (2, 3)
            class Net:
                depth = 1
        """,
        star="from net import *",
    )
    found = {"torch": False, "np": False, "f": True, "A": False, "B": False, "C": False, "D": False, "Net": True}
    assert defined(tmp_path / "net.py") == found and defined(tmp_path / "star.py") is None


def test_a_sibling_that_is_imported_inside_a_function_is_refused_with_its_line(tmp_path):
    put(tmp_path, net="def f():\n    import helper", helper="")
    with pytest.raises(BadRequest, match=r"net.py, line 2: imports helper inside a function.*top of the file"):
        traced(tmp_path)
    put(tmp_path, net="import sub.one", sub__one="def f():\n    from . import two", sub__two="")
    with pytest.raises(BadRequest, match=r"one.py, line 2: imports two inside a function"):
        traced(tmp_path)
    put(tmp_path, net="import helper\ndef f():\n    import os", helper="")
    assert traced(tmp_path).names == {"helper"}


def test_a_circle_of_imports_ends(tmp_path):
    put(tmp_path, net="import a", a="import b", b="import a")
    assert names(traced(tmp_path), tmp_path) == {"net.py", "a.py", "b.py"}


@pytest.mark.parametrize(
    ("raw", "words"), [(b"x = 'caf\xe9'", "not UTF-8 at byte 8"), (b"x = (", "line 1"), (b"\0", "not Python")]
)
def test_a_file_that_cannot_be_read_is_refused(raw, words, tmp_path):
    (tmp_path / "net.py").write_bytes(raw)
    with pytest.raises(BadRequest, match=words):
        traced(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "net.py").write_bytes("\ufeffx = 1".encode())
    assert Source.collect([traced(tmp_path)], tmp_path).files == {"study/net.py": "x = 1"}


def test_a_source_is_plain_files_in_the_results_folder_and_comes_back(tmp_path):
    put(tmp_path / "study", net="import sub.helper", sub__helper="A = 'ü'")
    found = Source.collect([traced(tmp_path / "study")], tmp_path / "study")
    folder = ResultsFolder.at(tmp_path / "results").sub("source")
    assert Source.read(folder) is None
    found.write(folder)
    assert (tmp_path / "results" / "source" / "study" / "sub" / "helper.py").read_text() == "A = 'ü'"
    assert Source.read(folder) == found and not changed(found, Source.read(folder))


@pytest.mark.parametrize("edit", ["unlink", "write"])
def test_a_recorded_file_that_was_edited_or_removed_is_refused(edit, tmp_path):
    put(tmp_path / "study", net="A = 1")
    folder = ResultsFolder.at(tmp_path / "results").sub("source")
    Source.collect([traced(tmp_path / "study")], tmp_path / "study").write(folder)
    file = tmp_path / "results" / "source" / "study" / "net.py"
    file.unlink() if edit == "unlink" else file.write_text("A = 2")
    with pytest.raises(FolderRefused, match=r"source/study/net\.py: absent or not as it was written"):
        Source.read(folder)


@pytest.mark.parametrize("name", ["../x.py", "/x.py", "study/../../x.py", "a//b.py", "a\\b.py", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    with pytest.raises(FolderRefused, match="is not the name of a file"):
        Source({name: ""})
    folder = ResultsFolder.at(tmp_path)
    folder.write_json("index.json", {"folder": "study", "files": {name: "0"}})
    with pytest.raises(FolderRefused, match="is not the name of a file"):
        Source.read(folder)


def test_unpacking_twice_gives_the_same_folder_and_leaves_nothing_else(tmp_path):
    found = source("A = 1")
    assert found.unpack(tmp_path) == found.unpack(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_several_references_are_one_source(tmp_path):
    put(tmp_path, net="import helper", parts="import helper", helper="")
    references = [refer("model", text, tmp_path, {}) for text in ("net.py:net", "parts.py:loss", "net.py:other")]
    found = Source.collect([reference.trace() for reference in references], tmp_path)
    assert set(found.files) == {"study/net.py", "study/parts.py", "study/helper.py"} and found.folder == "study"
