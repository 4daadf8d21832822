"""Test protocols: indices and crops worked out by hand, sizes, user-made ones, errors."""

import json

import pytest
import torch

from kinema.data.sampling import frames, sample_test
from kinema.data.transforms import crop_boxes
from kinema.engine.protocols import PROTOCOLS, Protocol, cut_crops, find_protocol, image_size
from kinema.errors import KinemaError, UsageError


def starts_of(name, *, images, length):
    protocol = PROTOCOLS[name]
    starts = sample_test(
        protocol.rule, num_frames=images, length=length, num_clips=protocol.num_clips
    )
    assert frames(starts, length=length, num_frames=images).max() < images
    return starts.tolist()


# A video of 250 frames has 249 flow pairs.
@pytest.mark.parametrize(
    ("name", "images", "length", "expected"),
    [
        ("tsn-25x10", 250, 1, range(0, 241, 10)),  # (250 - 1) // 24 = 10
        ("tsn-25x10", 249, 5, range(0, 241, 10)),  # (249 - 5) // 24 = 10
        ("tsn-25x10", 28, 1, range(25)),  # 27 // 24 = 1
        ("tsn-25x10", 27, 5, [0] * 25),  # 22 // 24 = 0
        ("zhu-25x10", 250, 1, range(0, 241, 10)),  # (250 - 1) // 24 = 10
        ("zhu-25x10", 249, 10, range(0, 217, 9)),  # (249 - 10 + 1) // 25 = 9
        ("uniform-19", 250, 1, range(0, 217, 12)),  # (250 - 10) // 19 = 12
        ("uniform-19", 249, 10, range(0, 217, 12)),  # (249 - 9) // 19 = 12
        ("elkomy-19", 250, 1, range(0, 235, 13)),  # (250 - 1) // 19 = 13
        ("elkomy-19", 249, 10, range(0, 217, 12)),  # (249 - 9) // 19 = 12
        ("slim-5", 250, 1, range(25, 226, 50)),  # step 50, centres from 25
        ("slim-5", 249, 10, range(19, 216, 49)),  # step 49, centres from 24, 5 before
        ("centre-1", 250, 1, [125]),  # (250 - 1 + 1) / 2
        ("centre-1", 249, 10, [120]),  # (249 - 10 + 1) / 2
        ("uniform-10", 91, 1, range(0, 91, 10)),  # from 0 to the last
    ],
)
def test_clips_by_hand(name, images, length, expected):
    assert starts_of(name, images=images, length=length) == list(expected)


@pytest.mark.parametrize(
    ("name", "num_views", "average", "aggregate"),
    [
        ("tsn-25x10", 250, "logits", "mean"),
        ("zhu-25x10", 250, "logits", "mean"),
        ("uniform-19", 19, "logits", "sum"),
        ("elkomy-19", 19, "probabilities", "mean"),
        ("slim-5", 5, "logits", "mean"),
        ("centre-1", 1, "logits", "mean"),
        ("uniform-10", 10, "logits", "mean"),
    ],
)
def test_views_and_aggregation(name, num_views, average, aggregate):
    protocol = find_protocol(name)
    assert (protocol.name, protocol.num_views) == (name, num_views)
    assert (protocol.average, protocol.aggregate) == (average, aggregate)


@pytest.mark.parametrize(
    ("name", "crop", "size"),
    [
        ("tsn-25x10", 224, "340x256"),
        ("tsn-25x10", 112, "170x128"),
        ("tsn-25x10", 96, "146x110"),  # 145.7, 109.7
        ("zhu-25x10", 299, "454x342"),  # 453.8, 341.7
        ("uniform-19", 224, "224x224"),
        ("elkomy-19", 299, "299x299"),
        ("slim-5", 64, "64x64"),
        ("centre-1", 64, "short:80"),
    ],
)
def test_published_sizes_belong_to_224_and_are_scaled(name, crop, size):
    assert image_size(PROTOCOLS[name], train_resize="short:80", crop=crop) == size


def test_sizes_of_the_shorter_side_are_scaled_and_none_stays():
    sized = Protocol(resize="short:256")
    assert image_size(sized, train_resize="340x256", crop=224) == "short:256"
    assert image_size(sized, train_resize="340x256", crop=112) == "short:128"
    assert image_size(Protocol(resize="none"), train_resize="340x256", crop=96) == "none"


def coordinates(*, height, width, channels=2):
    """Snippets (1, 1, 2, H, W): channel 0 holds the row, channel 1 the column."""
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    return torch.stack([rows, columns])[None, None]


def corners(x, crops, *, crop):
    """(top, left, mirrored) of every view."""
    views = cut_crops(x, crops=crops, crop=crop, negated_channels=())
    assert views.shape[1:] == (1, 1, 2, crop, crop)
    found = []
    for view in views[:, 0, 0]:
        top, first, last = (int(v) for v in (view[0, 0, 0], view[1, 0, 0], view[1, 0, -1]))
        assert abs(last - first) == crop - 1
        found.append((top, min(first, last), first > last))
    return found


def test_the_ten_crops_are_four_corners_centre_and_their_mirrors():
    x = coordinates(height=160, width=212)
    five = [(0, 0), (0, 72), (20, 0), (20, 72), (10, 36)]
    expected = [(*place, mirrored) for mirrored in (False, True) for place in five]
    assert corners(x, "ten", crop=140) == expected
    five[4] = (10, 38)
    expected = [(*place, mirrored) for mirrored in (False, True) for place in five]
    assert corners(x, "zhu-ten", crop=140) == expected


def test_the_published_boxes_at_340x256():
    boxes = [
        [(b.top, b.left) for b in crop_boxes(name, height=256, width=340, crop=224)]
        for name in ("five", "zhu-five")
    ]
    assert boxes[0] == [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    assert boxes[1] == [(0, 0), (0, 116), (32, 0), (32, 116), (16, 60)]  # [16:240, 60:284]


def test_other_crops():
    x = coordinates(height=40, width=50)
    assert corners(x, "centre", crop=32) == [(4, 9, False)]
    assert corners(x, "five", crop=32)[4] == (4, 9, False)
    assert len(corners(x, "five", crop=32)) == 5
    assert corners(x, "three", crop=32) == [(4, 0, False), (4, 9, False), (4, 18, False)]
    tall = coordinates(height=50, width=40)
    assert corners(tall, "three", crop=32) == [(0, 4, False), (9, 4, False), (18, 4, False)]


def test_mirrored_x_flow_changes_its_sign():
    """128 is zero; a codec may leave 0, which is as far to the left as there is to the right."""
    x = torch.tensor([[0, 1, 28, 128], [129, 228, 254, 255]] * 2, dtype=torch.uint8)
    x_NTCHW = torch.stack([x, x])[None, None]
    assert x_NTCHW.shape == (1, 1, 2, 4, 4)
    views = cut_crops(x_NTCHW, crops="ten", crop=4, negated_channels=(0,))
    assert views.shape == (10, 1, 1, 2, 4, 4)
    for view in views[:5, 0, 0]:
        assert torch.equal(view, torch.stack([x, x]))
    for view in views[5:, 0, 0]:
        assert view[0, :2].tolist() == [[128, 228, 255, 255], [1, 2, 28, 127]]
        assert torch.equal(view[1], x.flip(-1))


def test_all_clips_and_images_have_the_same_crops():
    x_NTCHW = torch.randint(0, 256, (3, 4, 2, 20, 30), dtype=torch.uint8)
    views = cut_crops(x_NTCHW, crops="ten", crop=16, negated_channels=(0,))
    assert views.shape == (10, 3, 4, 2, 16, 16)
    assert torch.equal(views[1], x_NTCHW[..., :16, 14:])
    assert torch.equal(views[6][:, :, 1], x_NTCHW[:, :, 1, :16, 14:].flip(-1))


def test_a_crop_that_does_not_fit_is_an_error():
    with pytest.raises(UsageError, match=r"224x224 does not fit into images of 50x40"):
        cut_crops(coordinates(height=40, width=50), crops="centre", crop=224, negated_channels=())


def written(folder, text):
    path = folder / "mine.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)


def test_a_user_made_protocol(tmp_path):
    fields = {"rule": "uniform", "num_clips": 4, "crops": "three", "resize": "short:256"}
    protocol = find_protocol(written(tmp_path, fields))
    assert protocol == Protocol(
        name="mine", rule="uniform", num_clips=4, crops="three", resize="short:256"
    )
    assert protocol.num_views == 12
    assert find_protocol(written(tmp_path, {**fields, "name": "x"})).name == "x"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_clip": 4}, r"Unknown setting 'num_clip'\. Did you mean 'num_clips'\?"),
        ({"crops": "eleven"}, r"'mine' has crops=eleven: choose one of centre, three, five, ten"),
        ({"rule": "tsn"}, r"'mine' has rule=tsn: choose one of tsn-25, "),
        ({"average": "logit"}, r"average=logit: choose one of logits, probabilities"),
        ({"aggregate": "max"}, r"aggregate=max: choose one of mean, sum"),
        ({"num_clips": 0}, r"num_clips=0: a whole number of at least 1"),
        ({"num_clips": "25"}, r"num_clips=25: a whole number"),
        ({"resize": "256"}, r"'256' is not a size"),
        ({"resize": "axb"}, r"'axb' is not a size"),
        ({"resize": 256}, r"'256' is not a size"),
        ([1, 2], r"mine\.json is not a protocol: write a JSON object"),
        ("{broken", r"mine\.json is not a JSON file"),
    ],
)
def test_wrong_protocols_are_one_sentence(tmp_path, fields, message):
    with pytest.raises(KinemaError, match=message):
        find_protocol(written(tmp_path, fields))


def test_unknown_names_are_errors_with_the_closest_one(tmp_path):
    message = (
        r"Unknown protocol 'tsn-25x1'\. Did you mean 'tsn-25x10'\? Known: tsn-25x10, zhu-25x10"
    )
    with pytest.raises(UsageError, match=message):
        find_protocol("tsn-25x1")
    with pytest.raises(UsageError, match=r"Unknown protocol '.*absent\.json'.*or a JSON file"):
        find_protocol(str(tmp_path / "absent.json"))


def test_a_sum_of_probabilities_is_refused():
    with pytest.raises(UsageError, match=r"'p' sums probabilities: use aggregate=mean, or"):
        Protocol(name="p", average="probabilities", aggregate="sum")
