import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from nonet.errors import RecipeError
from nonet.recipe import Models, Recipe, list_recipes, load_recipe


def sections(model=Recipe, prefix=""):
    """Yield (dotted name, field) of every setting and section."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{prefix}{name}.")


LEAVES = [(n, f) for n, f in sections() if not (isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel))]


@pytest.mark.parametrize("name, field", LEAVES, ids=[name for name, _ in LEAVES])
def test_every_setting_says_what_it_does(name, field):
    assert field.description and field.description.strip()


def test_the_walk_over_settings_reaches_the_sections():
    names = {name for name, _ in LEAVES}
    assert {"train.epochs", "augment.mixup_alpha", "optimiser.betas", "name"} <= names


@pytest.mark.parametrize(
    "setting, words",
    [
        ("train.epohcs=5", ["train.epohcs", "5", "no such setting"]),
        ("nonsense=1", ["nonsense", "no such setting"]),
        ("train.epochs=0", ["train.epochs", "0", "greater than or equal to 1"]),
        ("train.epochs=five", ["train.epochs", "five"]),
        ("train.epochs=2.5", ["train.epochs", "2.5"]),
        ("augment.mixup_probability=1.5", ["augment.mixup_probability", "1.5"]),
        ("train.ema_decay=1", ["train.ema_decay", "1"]),
        ("optimiser.learning_rate_first=0", ["optimiser.learning_rate_first", "0"]),
        ("optimiser.learning_rate_first=nan", ["optimiser.learning_rate_first", "nan"]),
        ("optimiser.learning_rate_first=inf", ["optimiser.learning_rate_first", "inf"]),
        ("optimiser.learning_rate_last=1.0", ["optimiser", "learning_rate_last (1.0)", "larger"]),
        ("augment.cutmix_probability=0.9", ["augment", "together exceed 1"]),
        ("augment.motion_blur_px=4", ["augment", "odd", "4"]),
        ("models.architectures=[]", ["models.architectures"]),
        ('models.architectures=["vit_mini", "vit_mini"]', ["models.architectures", "twice", "vit_mini"]),
        ("train=5", ["train", "5"]),
        ("name.first=1", ["name.first", "not a setting"]),
        ("train.epochs", ["train.epochs", "not a setting"]),
        ("=5", ["=5", "not a setting"]),
    ],
)
def test_a_bad_setting_is_named_with_its_value(setting, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe("paper", [*(["augment.mixup_probability=0.5"] if "cutmix" in setting else []), setting])
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint


def test_all_faults_are_named_at_once(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[models]\narchitectures = ["vit_mini"]\n[train]\nepochs = 0\nspeed = 3\n')
    with pytest.raises(RecipeError, match=r"train\.epochs = 0.*train\.speed = 3"):
        load_recipe(file)


def test_a_recipe_without_networks_is_refused(tmp_path):
    (tmp_path / "bare.toml").write_text('name = "bare"\n')
    with pytest.raises(RecipeError, match="models: missing"):
        load_recipe(tmp_path / "bare.toml")


def test_bad_toml_names_the_file_and_line(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[train]\nepochs = = 5\n")
    with pytest.raises(RecipeError, match=r"bad\.toml.*line 2"):
        load_recipe(file)
    file.write_bytes(b'name = "\xff\xfe"\n')
    with pytest.raises(RecipeError, match=r"bad\.toml"):
        load_recipe(file)


def test_unknown_names_are_refused_with_those_there_are(tmp_path):
    with pytest.raises(RecipeError, match='"papper"') as caught:
        load_recipe("papper")
    assert all(name in caught.value.hint for name in list_recipes())
    with pytest.raises(RecipeError, match=r"gone\.toml"):
        load_recipe(tmp_path / "gone.toml")


def test_settings_take_toml_values_and_bare_words():
    recipe = load_recipe(
        "paper", ["train.epochs=5", "models.weights=none", "optimiser.betas=[0.8, 0.9]", "train.keep=last"]
    )
    assert recipe.train.epochs == 5
    assert recipe.models.weights == "none"
    assert recipe.optimiser.betas == (0.8, 0.9)
    assert recipe.train.keep == "last"
    files = load_recipe(recipe, ["models.weight_files.swinv2_tiny=a b.pth"]).models.weight_files
    assert files == {"swinv2_tiny": "a b.pth"}


def test_changing_a_recipe_leaves_the_first_one_alone():
    first = load_recipe("paper")
    before = first.to_toml()
    load_recipe(first, ["train.epochs=1", "models.weight_files.swinv2_tiny=x.pth"])
    assert first.to_toml() == before
    with pytest.raises(ValueError, match="frozen"):
        first.train.epochs = 1


def test_a_file_without_a_name_is_called_after_itself(tmp_path):
    (tmp_path / "mine.toml").write_text('[models]\narchitectures = ["vit_mini"]\n')
    assert load_recipe(tmp_path / "mine.toml").name == "mine"


any_text = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode but surrogates


@given(
    text=any_text,
    rate=st.floats(1e-12, 1e3),
    size=st.none() | st.integers(16, 512),
    widths=st.lists(st.integers(1, 999), max_size=4),
    files=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    ),
)
def test_to_toml_is_read_back_as_the_same_recipe(text, rate, size, widths, files):
    models = Models(
        architectures=("vit_mini", *sorted(set(files) - {"vit_mini"})),
        image_size_px=size,
        head_widths=tuple(widths),
        weight_files=files,
    )
    recipe = Recipe(
        name="r",
        description=text,
        models=models,
        optimiser={"learning_rate_first": rate, "learning_rate_last": 0.0},
    )
    assert Recipe.model_validate(tomllib.loads(recipe.to_toml())) == recipe


def test_the_paper_recipe_holds_the_published_settings():
    recipe = load_recipe("paper")
    assert recipe.models.architectures == ("swinv2_tiny", "convnextv2_tiny", "dinobloom_small")
    assert recipe.models.head_widths == (512, 256, 128)
    assert (recipe.folds.num_folds, recipe.folds.by) == (3, "image")
    assert (recipe.loss.name, recipe.loss.alpha, recipe.loss.gamma) == ("focal_sigmoid", 0.25, 2.0)
    assert (recipe.optimiser.learning_rate_first, recipe.optimiser.learning_rate_last) == (5e-4, 5e-6)
    assert (recipe.train.ema_decay, recipe.train.batch_size, recipe.train.patience_epochs) == (0.999, 32, 10)


HUGE = {
    "train.epochs": 10**9,
    "train.batch_size": 10**9,
    "train.patience_epochs": 10**9,
    "train.seed": -1,
    "folds.seed": 2**32,
    "folds.num_folds": 10**9,
    "models.image_size_px": 10**9,
    "models.head_widths": [10**9],
    "predict.num_random_views": 10**9,
    "denoise.patch_size_px": 10**9,
    "augment.motion_blur_px": 10**9 + 1,
    "augment.blur_sigma_px": 1e9,
    "loss.gamma": 1e9,
    "optimiser.learning_rate_first": 1e9,
    "optimiser.warmup_epochs": 1e9,
}


@pytest.mark.parametrize("setting", HUGE)
def test_settings_that_no_machine_could_bear_are_refused(setting):
    with pytest.raises(RecipeError, match=setting.split(".")[1]):
        load_recipe("cpu", [f"{setting}={HUGE[setting]}"])


@pytest.mark.parametrize("setting", ["train.epochs=true", "loss.gamma=false", "models.head_widths=[true, true]"])
def test_true_is_not_a_number(setting):
    with pytest.raises(RecipeError):
        load_recipe("cpu", [setting])


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "{b=" * 100_000, "a = " + "9" * 100_000, "\x00", "\ufeff="]
)
def test_invalid_toml_gives_no_traceback(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(tmp_path / "mine.toml")
    with pytest.raises(RecipeError):
        load_recipe("cpu", [text])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_recipe_is_read_as_windows_writes_it(tmp_path, encoding, line_end):
    """PowerShell's `nonet recipes show cpu > mine.toml` makes UTF-16, old editors put a mark before UTF-8."""
    text = load_recipe("cpu").to_toml().replace("\n", line_end)
    (tmp_path / "mine.toml").write_bytes(text.encode(encoding))
    assert load_recipe(tmp_path / "mine.toml") == load_recipe("cpu")


def test_a_file_that_is_too_large_for_a_recipe_is_not_read(tmp_path):
    with (tmp_path / "mine.toml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RecipeError, match="not a recipe"):
        load_recipe(tmp_path / "mine.toml")


@pytest.mark.parametrize("setting", ["models.centre={vit_min=0.5}", "models.weight_files.vit_min=own.pth"])
def test_an_architecture_that_the_recipe_lacks_is_refused(setting):
    """A misspelt one would otherwise have no effect: the published weights, the whole frame."""
    with pytest.raises(RecipeError, match=r"vit_min\b.*swinv2_tiny"):
        load_recipe("paper", [setting])
