"""Make the study that reruns a published text, shortened or with other data on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnetlab.errors import BadRequest
from resnetlab.paths import user_path
from resnetlab.study import Study, build_study
from resnetlab.study.study import with_changes
from resnetlab.study.yaml_io import read_yaml

SCALED = "-scale-"  # in the name of a shortened study, before its scale


def listed(studies: Path) -> Iterator[str]:
    """Lines that list the published studies with title and arms. studies: folder of their files."""
    for path in sorted(studies.glob("*.yaml")):
        content = read_yaml(path)
        yield f"{path.stem}: {content['title']}"
        yield f"    arms: {', '.join(content['arms'])}"


def study_of(
    studies: Path,
    name: str,
    seeds: int | None,
    scale: float,
    data: str | None,
    changes: Mapping[str, Any] | None = None,
) -> Study:
    """The published study called `name`.

    seeds: runs of each arm, None for the study's own. scale: fraction of its epochs and training images to use.
    data: where its images or fonts are. changes: dotted key: value, of `--set`.
    Raises BadRequest for an unknown name or an invalid value.
    """
    path = studies / f"{name}.yaml"
    if "/" in name or not path.is_file():
        known = ", ".join(sorted(file.stem for file in studies.glob("*.yaml")))
        raise BadRequest(f"{name}: no published study of this name (allowed: {known})")
    if not 0 < scale <= 1:
        raise BadRequest(f"--scale {scale}: need 0 < scale <= 1")
    for option, value, key in (("--seeds", seeds, "confirm.seeds"), ("--data", data, "dataset.root")):
        if value is not None and key in (changes or {}):
            raise BadRequest(f"{option} {value}: --set {key} gives it too (allowed: one of them)")
    content: dict[str, Any] = {"name": name} | read_yaml(path)
    if seeds is not None:
        content["confirm"]["seeds"] = seeds
    if data is not None:
        content["dataset"] = _placed(content["dataset"], user_path(data, "--data"))
    content = with_changes(content, changes or {}, str(path))
    if scale < 1:
        content["name"] = f"{name}{SCALED}{scale:g}"
        _shorten(content, scale)
    return build_study(content, str(path))


def _placed(dataset: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """The dataset read from `data`: an archive of character fonts, a folder of images by class, a folder of fonts to
    render, or torchvision's files."""
    settings = {key: value for key, value in dataset.items() if key in ("label", "val_fraction")}
    if data.suffix == ".zip":
        return {"name": "character-fonts", "root": str(data)} | settings
    if (data / "train").is_dir():
        return {"name": "folder", "root": str(data)} | {key: settings[key] for key in settings if key != "label"}
    return dict(dataset) | {"font_dir" if dataset["name"] == "glyphs" else "root": str(data)}


def _shorten(content: dict[str, Any], scale: float) -> None:
    def fewer(epochs: int) -> int:
        return max(1, round(epochs * scale))

    content["search"]["epochs"] = fewer(content["search"]["epochs"])
    content["baseline"]["data_fraction"] = scale * content["baseline"].get("data_fraction", 1.0)
    for arm in content["arms"].values():
        if "epochs" in arm:
            arm["epochs"] = fewer(arm["epochs"])
        if "data_fraction" in arm:
            arm["data_fraction"] *= scale
