"""The demo, with few cells and one epoch: its story, its report, and going on where it was."""

import pytest

import nonet

pytestmark = pytest.mark.end_to_end


def test_the_demo_tells_its_story_and_again_without_doing_it_again(tmp_path):
    numbers = {"num_training_images": 150, "num_test_images": 40}
    settings = ["train.epochs=1", "models.image_size_px=32"]
    said = []
    first = nonet.demo(tmp_path / "demo", settings=settings, say=said.append, **numbers)
    assert first.report.is_file()
    assert 0 <= first.test_macro_f1 <= 1
    story = "\n".join(said)
    for step in range(1, 9):
        assert f"\n{step}. " in f"\n{story}"
    assert "13 classes" in story
    assert "40 images" in story
    made = [*tmp_path.rglob("weights.safetensors"), *tmp_path.rglob("predictions.csv"), *tmp_path.rglob("*.png")]
    assert len([p for p in made if p.suffix == ".safetensors"]) == 9
    before = {p: p.stat().st_mtime_ns for p in made}
    second = nonet.demo(tmp_path / "demo", settings=settings, **numbers)
    assert {p: p.stat().st_mtime_ns for p in made} == before
    assert second.test_macro_f1 == first.test_macro_f1
    assert second.table.equals(first.table)
    with pytest.raises(nonet.NonetError, match="started with another"):
        nonet.demo(tmp_path / "demo", settings=["train.epochs=2", "models.image_size_px=32"], **numbers)
    with pytest.raises(nonet.NonetError, match=r"\bseed\b.*0.*1"):
        nonet.demo(tmp_path / "demo", seed=1, settings=settings, **numbers)
