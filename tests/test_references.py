"""A user's own code is found by reference, imported without leftovers, and its errors are reported early."""

import importlib.metadata
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetlab.errors import BadRequest
from resnetlab.experiment.references import Reference, probe, refer
from resnetlab.experiment.source import Source

BUILT_IN = {"resnet": "resnetlab.vision.models.resnet:resnet", "cnn": "resnetlab.vision.models.cnn:cnn"}


def put(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def own(text, folder):
    return refer("model", text, folder, BUILT_IN)


def refused(call, *words):
    with pytest.raises(BadRequest) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words), message
    return message


def test_a_built_in_name_is_read_without_importing_it(tmp_path):
    assert own("resnet", tmp_path) == Reference("model", "resnet", "resnet", module="resnetlab.vision.models.resnet")


def test_a_function_in_a_file_is_loaded_with_the_files_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    put(tmp_path, net="import helper\nfrom sub import part\ndef net(): return helper.WIDTH + part.DEPTH")
    put(tmp_path, helper="WIDTH = 3", sub__part="from sub.other import DEPTH", sub__other="DEPTH = 4")
    path = list(sys.path)
    assert own("net.py:net", tmp_path).load()() == 7
    assert sys.path == path and not [finder for finder in sys.meta_path if type(finder).__name__ == "_Beside"]
    assert not {"helper", "sub", "sub.part", "sub.other"} & set(sys.modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_folders_may_have_a_file_of_the_same_name(tmp_path):
    for folder, width in (("a", 1), ("b", 2)):
        put(tmp_path / folder, net="from helper import WIDTH\ndef net(): return WIDTH", helper=f"WIDTH = {width}")
    nets = [own("net.py:net", tmp_path / folder).load() for folder in ("a", "b", "a")]
    assert [net() for net in nets] == [1, 2, 1]


def test_a_module_of_the_same_name_that_was_imported_before_is_still_there(tmp_path, monkeypatch):
    put(tmp_path / "theirs", helper="WIDTH = 'theirs'")
    put(tmp_path / "mine", net="import helper\ndef net(): return helper.WIDTH", helper="WIDTH = 'mine'")
    monkeypatch.syspath_prepend(str(tmp_path / "theirs"))
    import helper

    assert own("net.py:net", tmp_path / "mine").load()() == "mine"
    assert sys.modules["helper"] is helper and helper.WIDTH == "theirs"
    del sys.modules["helper"]


def test_a_file_beside_that_has_the_name_of_a_module_of_python_does_not_replace_it(tmp_path):
    put(tmp_path, net="import random\ndef net(): return random.random()", random="raise RuntimeError")
    assert 0 <= own("net.py:net", tmp_path).load()() < 1


def test_an_edit_is_seen_in_the_same_process_also_in_a_file_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    put(tmp_path, net="from helper import WIDTH\ndef net(): return WIDTH", helper="WIDTH = 1")
    assert own("net.py:net", tmp_path).load()() == 1
    put(tmp_path, helper="WIDTH = 2")
    assert own("net.py:net", tmp_path).load()() == 2


def test_the_same_file_is_imported_once(tmp_path):
    put(tmp_path, net="class Net: pass")
    assert own("net.py:Net", tmp_path).load() is own("net.py:Net", tmp_path).load()


def test_another_process_loads_the_same_from_what_was_recorded(tmp_path):
    put(tmp_path / "study", net="from helper import WIDTH\ndef net(): return WIDTH", helper="WIDTH = 5")
    reference = own("net.py:net", tmp_path / "study")
    folder = Source.collect([reference.trace()], tmp_path / "study").unpack(tmp_path / "elsewhere")
    (tmp_path / "study").rename(tmp_path / "gone")
    raw = pickle.dumps(reference.at(folder))
    assert len(raw) < 1000
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).load()())"
    done = subprocess.run([sys.executable, "-c", code], input=raw, capture_output=True)
    assert done.stdout.strip() == b"5", done.stderr.decode()


def test_a_file_outside_the_study_s_folder_is_recorded_too(tmp_path):
    put(tmp_path, common__net="import shapes\ndef net(): return shapes.SIDE", common__shapes="SIDE = 8", studies__x="")
    reference = own("../common/net.py:net", tmp_path / "studies")
    source = Source.collect([reference.trace()], tmp_path / "studies")
    assert set(source.files) == {"study/common/net.py", "study/common/shapes.py"}
    assert reference.at(source.unpack(tmp_path / "elsewhere")).load()() == 8


def test_a_name_beside_the_function_or_on_the_class_is_found(tmp_path):
    put(tmp_path, task="METRICS = {'a': 'min'}\ndef train(): pass\nclass Task:\n    METRICS = {'b': 'max'}")
    assert own("task.py:train", tmp_path).beside("METRICS") == {"a": "min"}
    assert own("task.py:Task", tmp_path).beside("METRICS") == {"b": "max"}
    assert own("task.py:train", tmp_path).beside("NOTHING", 0) == 0


def test_a_module_of_a_package_is_loaded_and_its_own_files_are_recorded(tmp_path, monkeypatch):
    put(tmp_path, mypkg__nets="from .parts import WIDTH\nimport json\ndef net(): return WIDTH")
    (tmp_path / "mypkg" / "__init__.py").write_text("")
    put(tmp_path, mypkg__parts="WIDTH = 6", mypkg__unused="WIDTH = 7")
    monkeypatch.syspath_prepend(str(tmp_path))
    reference = own("mypkg.nets:net", tmp_path)
    assert "mypkg" not in sys.modules
    names = {"packages/mypkg/__init__.py", "packages/mypkg/nets.py", "packages/mypkg/parts.py"}
    assert set(Source.collect([reference.trace()], tmp_path).files) == names
    assert "mypkg" not in sys.modules
    assert reference.load()() == 6


def test_a_large_package_of_one_s_own_is_recorded_file_by_file(tmp_path, monkeypatch):
    put(tmp_path, largepkg__nets="def net(): pass", **{f"largepkg__more{number}": "" for number in range(501)})
    (tmp_path / "largepkg" / "__init__.py").write_text("from . import more7")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = Source.collect([own("largepkg.nets:net", tmp_path).trace()], tmp_path)
    assert set(source.files) == {f"packages/largepkg/{name}.py" for name in ("__init__", "nets", "more7")}


def test_a_large_installed_package_is_recorded_by_its_version(tmp_path):
    source = Source.collect([own("scipy.special:expit", tmp_path).trace()], tmp_path)
    assert source.files == {"packages/scipy/version.txt": f"scipy {importlib.metadata.version('scipy')}\n"}


WRONG = {  # text of net.py and reference -> what the message says
    "there is no such file": ("", "nett.py:net", ["no such file", "did you mean 'net.py'?"]),
    "the file lacks the name": ("def net(): pass", "net.py:nett", ["no 'nett' in net.py", "did you mean 'net'?"]),
    "the file defines nothing": ("A = 1", "net.py:net", ["no 'net'", "defines no function"]),
    "no name is given": ("", "net.py", ["name the function or class in it", "net.py:name"]),
    "it cannot be called": ("net = {}", "net.py:net", ["is a dict", "allowed: a function or a class"]),
    "it raises": (
        "def f():\n    return 1 / 0\nnet = f()",
        "net.py:net",
        ["net.py", "line 2, in f", "ZeroDivisionError"],
    ),
    "it is not Python": ("def net(:", "net.py:net", ["line 1", "not Python"]),
    "it lacks a package": ("import nosuchpackage as net", "net.py:net", ["No module named 'nosuchpackage'", "line 1"]),
    "it ends Python": ("raise SystemExit(3)\nnet = 1", "net.py:net", ["ends Python", "__main__"]),
    "it kills Python": (
        "import os; os.write(1, b'x\\n'); net = os._exit(7)",
        "net.py:net",
        ["Python ended with exit code 7"],
    ),
    "it asks": ("net = input()", "net.py:net", ["EOFError"]),
    "no such module": ("", "nosuch.thing:net", ["no module 'nosuch.thing'", "file.py:name"]),
    "the file is taken for a module": ("def net(): pass", "net:net", ["did you mean net.py:net?"]),
    "no such submodule": ("", "json.nosuch:net", ["no module 'json.nosuch'"]),
    "no such function in a module": ("", "json:lods", ["no 'lods' in json", "did you mean"]),
    "it is no name": ("", "net.py:1x", ["'1x' is not the name"]),
    "it is no module": ("", "a b:net", ["neither a Python file nor a module"]),
    "an unknown short name": ("", "resnt", ["'resnt' is not known (did you mean 'resnet'?)", "file.py:name"]),
    "it is imported too late": ("def net():\n    import helper", "net.py:net", ["line 2", "top of the file"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_reference_is_refused_in_words_where(case, tmp_path):
    text, given, words = WRONG[case]
    put(tmp_path, net=text, helper="")
    modules = set(sys.modules)

    def check():
        reference = own(given, tmp_path)
        probe([reference])

    message = refused(check, "model", *words)
    assert "importlib" not in message and "references.py" not in message
    assert not any(name.startswith("resnetlab_user") for name in set(sys.modules) - modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_what_raises_here_is_said_as_in_the_probe(tmp_path):
    put(tmp_path, net="def f():\n    return 1 / 0\nf()")
    message = refused(own("net.py:net", tmp_path).load, "model: net.py:net", "line 2, in f", "ZeroDivisionError")
    assert "importlib" not in message


def test_an_import_that_takes_a_minute_is_ended_and_its_line_named(tmp_path):
    put(tmp_path, net="import time\n\ntime.sleep(60)\ndef net(): pass")
    reference, began = own("net.py:net", tmp_path), time.monotonic()
    refused(lambda: probe([reference], seconds=0.5), "net.py, line 3: time.sleep(60)", "not imported after 0.5 s")
    assert time.monotonic() - began < 30


def test_an_import_that_takes_a_minute_is_ended_also_where_a_file_beside_or_a_library_is_at_it(tmp_path):
    put(tmp_path, net="import helper\ndef net(): pass", helper="import subprocess\n\nsubprocess.run(['sleep', '60'])")
    refused(lambda: probe([own("net.py:net", tmp_path)], seconds=0.5), "helper.py, line 3: subprocess.run")


def test_a_name_that_a_file_lacks_is_said_before_anything_is_imported(tmp_path):
    put(tmp_path, net="import os\nos._exit(1)\ndef net(): pass")
    refused(lambda: probe([own("net.py:nett", tmp_path)]), "no 'nett' in net.py (did you mean 'net'?)")


def test_what_packages_take_to_be_imported_does_not_count(tmp_path, monkeypatch):
    put(tmp_path / "site", slow="import time\ntime.sleep(2)")
    put(tmp_path, net="import slow\ndef net(): pass")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    probe([own("net.py:net", tmp_path)], seconds=1.0)


def test_a_process_that_an_import_starts_does_not_outlive_the_probe(tmp_path):
    put(
        tmp_path,
        net=f"import subprocess\nstarted = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(started.pid))\ndef net(): pass",
    )
    began = time.monotonic()
    probe([own("net.py:net", tmp_path)])
    assert time.monotonic() - began < 50
    state = Path("/proc", (tmp_path / "pid").read_text(), "status")
    assert not state.exists() or "zombie" in state.read_text()


def test_what_an_import_prints_goes_to_standard_error(tmp_path, capsys):
    put(tmp_path, net="print('hello')\ndef net(): pass")
    reference = own("net.py:net", tmp_path)
    probe([reference])
    assert capsys.readouterr() == ("", "")
    reference.load()
    assert capsys.readouterr() == ("", "hello\n")


def test_nothing_is_probed_where_all_is_built_in(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    probe([own("resnet", tmp_path)])


def plugin(site, dist, name, value):
    info = site / f"{dist}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[resnetlab.models]\n{name} = {value}\n")


def test_a_short_name_that_an_installed_package_registers_is_found(tmp_path, monkeypatch):
    put(tmp_path, plug="class Nets:\n    @staticmethod\n    def net(): return 9")
    plugin(tmp_path, "plug-in", "mine", "plug:Nets.net")
    monkeypatch.syspath_prepend(str(tmp_path))
    reference = refer("model", "mine", tmp_path, BUILT_IN, "resnetlab.models")
    assert (reference.package, reference.load()()) == ("plug-in", 9)
    refused(lambda: refer("model", "mime", tmp_path, BUILT_IN, "resnetlab.models"), "did you mean 'mine'?")
    assert str(reference) == "model: mine (registered by plug-in)"
    plugin(tmp_path, "whole", "module", "plug")
    refused(
        lambda: refer("model", "module", tmp_path, BUILT_IN, "resnetlab.models"), "whole registers 'plug', a module"
    )


def test_a_name_that_two_packages_register_is_refused_with_both(tmp_path, monkeypatch):
    plugin(tmp_path / "a", "first", "mine", "one:net")
    plugin(tmp_path / "b", "second", "mine", "two:net")
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    refused(
        lambda: refer("model", "mine", tmp_path, {}, "resnetlab.models"), "first and by second", "one:net", "two:net"
    )


def test_what_no_worker_could_find_is_refused(tmp_path):
    def local():
        pass

    refused(lambda: own(lambda: 0, tmp_path), "lambda", "file.py:name")
    refused(lambda: own(local, tmp_path), "local is defined in another function")
    main = type(local)(local.__code__, {}, "net")
    main.__module__, main.__qualname__ = "__main__", "net"
    refused(lambda: own(main, tmp_path), "net is defined in this notebook or script", "file.py:name")
    refused(lambda: own(3, tmp_path), "need a name, got 3", "resnet")


def test_a_function_that_was_imported_from_a_file_becomes_a_reference_to_it(tmp_path, monkeypatch):
    put(tmp_path, imported_net="def net(): return 4")
    monkeypatch.syspath_prepend(str(tmp_path))
    import imported_net

    reference = own(imported_net.net, Path("/nowhere"))
    assert (reference.text, reference.folder) == ("imported_net.py:net", str(tmp_path))
    assert own(json_loads := importlib.metadata.version, tmp_path).load() is json_loads
