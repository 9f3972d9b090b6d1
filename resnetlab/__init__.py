"""resnetlab: ablation studies with conclusions you can check.

>>> study = resnetlab.Study.load("default", search={"trials": 6})
>>> results = resnetlab.run(study, storage="results")
>>> results.effects

Each name is imported when it is first used, so that `import resnetlab` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnetlab import errors
    from resnetlab.api import Results, Study, load, run

__all__ = ["Results", "Study", "errors", "load", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("resnetlab.errors")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("resnetlab.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
