"""Features against the classifier's own input and output, whatever the passes and interruptions."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from helpers_data import NoiseSource, stand_in
from helpers_noise import items_of, network_of, settings_of, source
from kinema.data.clips import TrainClips
from kinema.engine.evaluate import clip_spec, evaluate
from kinema.engine.extract_features import FeatureKind, extract, read_inside
from kinema.engine.protocols import PROTOCOLS, Protocol
from kinema.engine.runtime import Runtime
from kinema.errors import KinemaError, UsageError
from kinema.features import FeatureWriter, load_features, partial_path

CPU = Runtime(device=torch.device("cpu"))
TEN_CROPS = Protocol(name="ten", num_clips=3, crops="ten", resize="train")


@pytest.fixture(autouse=True)
def noise_videos(monkeypatch):
    stand_in(monkeypatch, source)


def written(settings, path, *, kind=None, items=None):
    kind = kind or FeatureKind()
    network = network_of(settings)
    read_inside(network, settings.config.model, maps=kind.maps)
    items = items_of() if items is None else items
    extract(network, items, settings, path=path, kind=kind, runtime=CPU)
    return load_features(path)


def head_of(network):
    return network.backbone.get_classifier()


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_the_classifier_turns_features_into_the_scores_of_the_test(modality, tmp_path):
    settings = settings_of(TEN_CROPS, modality=modality)
    scores = evaluate(network_of(settings), items_of(), settings, runtime=CPU)
    found = written(settings, tmp_path / "f.safetensors")
    assert found.values.shape == (3, 10, 3, head_of(network_of(settings)).in_features)
    with torch.inference_mode():
        logits = head_of(network_of(settings))(torch.tensor(np.array(found.values)))
    np.testing.assert_allclose(logits.mean((1, 2)).numpy(), scores.values, atol=2e-5)
    assert np.ptp(found.values, axis=1).max() > 1e-3  # crops differ
    assert found.labels.tolist() == [0, 1, 2] and found.view_labels[1].tolist() == [1] * 10
    assert (found.stream, found.protocol, found.augmented) == (modality, "ten", False)


def crops_by_hand(number, clip):
    """The ten crops of a clip of tsn-25x10, cut with OpenCV and NumPy: (10, C, 24, 24)."""
    image = NoiseSource(number, num_frames=60).image(clip * ((60 - 1) // 24))
    image = cv2.resize(image, (36, 27), interpolation=cv2.INTER_LINEAR)  # 340x256 * 24 / 224
    places = ((0, 0), (0, 12), (3, 0), (3, 12), (1, 6))
    views = [image[top : top + 24, left : left + 24] for top, left in places]
    return torch.from_numpy(np.stack(views + [view[:, ::-1] for view in views])).permute(0, 3, 1, 2)


def test_every_clip_and_crop_is_in_its_place(tmp_path):
    settings = settings_of(PROTOCOLS["tsn-25x10"])
    found = written(settings, tmp_path / "f.safetensors")
    network, seen = network_of(settings), []
    head_of(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for clip in (0, 7, 24):
        with torch.inference_mode():
            network(crops_by_hand(2, clip)[:, None, None])
        np.testing.assert_allclose(found.values[2, :, clip], seen.pop().numpy(), atol=2e-5)


@pytest.mark.parametrize("views", [1, 7, 1000])
def test_the_size_of_a_pass_changes_nothing(views, tmp_path):
    whole = written(settings_of(TEN_CROPS), tmp_path / "a.safetensors")
    parts = written(settings_of(TEN_CROPS, views_per_pass=views), tmp_path / "b.safetensors")
    np.testing.assert_allclose(parts.values, whole.values, atol=2e-5)


def test_a_pass_holds_no_more_views_than_asked_for(tmp_path):
    settings, sizes = settings_of(TEN_CROPS, views_per_pass=7), []
    network = network_of(settings)
    read_inside(network, settings.config.model, maps=False)
    plain = network.snippet_logits
    network.snippet_logits = lambda x: (sizes.append(x.shape[0] * x.shape[1]), plain(x))[1]
    path = tmp_path / "f.safetensors"
    extract(network, items_of(), settings, path=path, kind=FeatureKind(), runtime=CPU)
    assert max(sizes) == 7 and sum(sizes) == 1 + 90  # one to learn the width


def test_maps_are_the_positions_before_the_mean(tmp_path):
    settings = settings_of(TEN_CROPS)
    pooled = written(settings, tmp_path / "a.safetensors")
    maps = written(settings, tmp_path / "b.safetensors", kind=FeatureKind(maps=True))
    network = network_of(settings)
    with torch.inference_mode():
        shape = network.backbone.forward_features(torch.zeros(1, 3, 24, 24)).shape
    assert maps.map_shape == tuple(shape[2:])
    assert maps.values.shape == (3, 10, 3, shape[2] * shape[3], shape[1])
    with torch.inference_mode():
        x = torch.tensor(np.array(maps.values)).flatten(0, 2).transpose(1, 2)
        again = network.backbone.forward_head(x.unflatten(2, shape[2:]), pre_logits=True)
    np.testing.assert_allclose(again.unflatten(0, (3, 10, 3)), pooled.values, atol=2e-5)


def test_maps_of_3d_networks_have_a_time(tmp_path):
    centre = Protocol(name="two", num_clips=2, resize="train")
    settings = settings_of(centre, "model.backbone=r3d_18", "data.stack=8", "data.crop=32")
    maps = written(settings, tmp_path / "m.safetensors", kind=FeatureKind(maps=True))
    pooled = written(settings, tmp_path / "p.safetensors")
    assert len(maps.map_shape) == 3 and maps.values.shape[3] == np.prod(maps.map_shape)
    np.testing.assert_allclose(maps.values.mean(3), pooled.values, atol=2e-5)


KIND = FeatureKind(passes=2, snippets=5, seed=4)


def test_random_passes_are_the_clips_of_the_training(tmp_path):
    settings = settings_of(TEN_CROPS, "augment.photometric=medium", "data.num_segments=5")
    found = written(settings, tmp_path / "f.safetensors", kind=KIND)
    data = settings.config.data
    clips = TrainClips(items_of(), clip_spec(data), settings.config.augment, seed=4)
    network, seen = network_of(settings), []
    head_of(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for view in range(2):
        for video in range(3):
            with torch.inference_mode():
                network(clips.clip(video, epoch=view)[0][None])
            np.testing.assert_allclose(found.values[video, view], seen.pop().numpy(), atol=2e-5)
    assert found.augmented and found.values.shape[:3] == (3, 2, 5)
    assert np.ptp(found.values, axis=1).max() > 1e-3  # no two passes are alike


def test_mirrored_passes_have_the_labels_of_the_mirror(tmp_path):
    settings = settings_of(TEN_CROPS, "augment.mirror_labels=a=b,b=a")
    found = written(settings, tmp_path / "f.safetensors", kind=replace(KIND, passes=12))
    assert set(found.view_labels[0]) == set(found.view_labels[1]) == {0, 1}
    assert set(found.view_labels[2]) == {2} and found.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", [FeatureKind(), KIND])
@pytest.mark.parametrize("views_done", [1, 13])
def test_an_interrupted_extraction_goes_on(kind, views_done, tmp_path, monkeypatch):
    settings, items = settings_of(TEN_CROPS), items_of(8)
    whole = written(settings, tmp_path / "a.safetensors", kind=kind, items=items)
    path, plain, left = tmp_path / "b.safetensors", FeatureWriter.finish, [views_done]

    def finish(writer, *args):
        plain(writer, *args)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FeatureWriter, "finish", finish)
        with pytest.raises(KeyboardInterrupt):
            written(settings, path, kind=kind, items=items)
    assert not path.exists() and partial_path(path).stat().st_size
    with pytest.raises(KinemaError, match="not complete"):
        load_features(partial_path(path))
    with monkeypatch.context() as patched:
        videos = []
        patched.setattr(
            "kinema.data.reading.open_source",
            lambda item, spec: (videos.append(item.id), source(int(item.id[1:]), spec))[1],
        )
        again = written(settings, path, kind=kind, items=items)
    assert not partial_path(path).exists()
    assert len(set(videos)) < 8 if kind.passes == 0 and views_done == 13 else videos
    np.testing.assert_allclose(again.values, whole.values, atol=2e-5)
    np.testing.assert_array_equal(again.view_labels, whole.view_labels)


def test_what_is_done_is_not_done_again_and_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "f.safetensors"
    written(settings_of(TEN_CROPS), path)
    before = path.read_bytes()
    monkeypatch.setattr("kinema.data.reading.open_source", None)
    written(settings_of(TEN_CROPS), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(KinemaError, match=r"made otherwise \(checkpoint, protocol"):
        written(settings_of(PROTOCOLS["centre-1"]), path)
    with pytest.raises(KinemaError, match="made otherwise"):
        written(settings_of(TEN_CROPS, checkpoint_hash="other"), path)
    assert path.read_bytes() == before


def test_heads_over_time_are_left_out(tmp_path):
    """Each snippet has features of its own, whatever joins them later."""
    settings = settings_of(TEN_CROPS, "model.consensus=lstm", "data.num_segments=4")
    network = network_of(settings)
    found = written(settings, tmp_path / "f.safetensors")
    assert found.values.shape == (3, 10, 3, network.feature_dim)


def test_networks_without_features_of_a_snippet_are_refused(tmp_path):
    tsm = settings_of(
        TEN_CROPS, "model.backbone=resnet18", "model.shift=residual", "data.num_segments=4"
    )
    with pytest.raises(KinemaError, match="shifts channels between the snippets"):
        written(tsm, tmp_path / "f.safetensors")
    tle = settings_of(TEN_CROPS, "model.consensus=tle", "model.tle_dim=64", "data.num_segments=2")
    with pytest.raises(KinemaError, match="no pooled features: give --maps"):
        written(tle, tmp_path / "f.safetensors")
    kind = FeatureKind(maps=True)
    assert written(tle, tmp_path / "m.safetensors", kind=kind).map_shape


def test_a_number_of_clips_that_depends_on_the_video_is_refused(tmp_path):
    with pytest.raises(UsageError, match="as many clips as cover a video"):
        written(settings_of(PROTOCOLS["hara-sliding"]), tmp_path / "f.safetensors")
