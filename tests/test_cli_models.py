import json
import math

import pytest
from typer.testing import CliRunner

from kinema import api
from kinema.cli import app
from kinema.errors import UsageError
from kinema.models.backbones import SHORT_NAMES
from kinema.models.catalog import CatalogEntry, catalog, usual_classes, usual_input
from kinema.models.catalog_sizes import SIZES
from kinema.models.clip_backbones import CLIP_BACKBONES
from kinema.models.describe import meta_size
from kinema.models.hf_clips import HUB_NETWORKS

QUICK = [name for name in (*SHORT_NAMES, *CLIP_BACKBONES) if name not in HUB_NETWORKS][::4]


def check_size(name: str) -> None:
    frames, size = usual_input(name)
    counted = meta_size(name, frames=frames, size=size, num_classes=usual_classes(name))
    found = (counted.parameters, counted.multiply_adds)
    assert SIZES.get(name, found) == found


@pytest.mark.parametrize("name", QUICK)
def test_the_table_says_what_is_counted(name: str):
    check_size(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in (*SHORT_NAMES, *CLIP_BACKBONES) if n not in QUICK])
def test_the_rest_of_the_table(name: str):
    if name in HUB_NETWORKS:
        pytest.importorskip("transformers")
    check_size(name)


def test_every_network_is_listed_with_a_source():
    entries = catalog()
    assert [entry.name for entry in entries] == [*SHORT_NAMES, *CLIP_BACKBONES]
    assert set(SIZES) <= {entry.name for entry in entries}
    assert all(entry.source and entry.parameters for entry in entries)
    assert {entry.kind for entry in entries} == {"2D", "3D"}


def by_name(name: str) -> CatalogEntry:
    return next(entry for entry in catalog() if entry.name == name)


@pytest.mark.parametrize(
    ("name", "giga"),
    [  # torchvision's own figures (`meta["_ops"]`), at 16 images for these networks
        ("resnet50", 4.089),
        ("vgg16", 15.47),
        ("r3d_18", 40.697),
        ("mc3_18", 43.343),
        ("r2plus1d_18", 40.519),
        ("mvit_v1_b", 70.599),
        ("mvit_v2_s", 64.224),
    ],
)
def test_multiply_adds_as_torchvision_counts_them(name: str, giga: float):
    assert by_name(name).multiply_adds / 1e9 == pytest.approx(giga, rel=2e-3)


def test_a_new_network_needs_no_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(SIZES, "resnet3d10")
    entry = catalog("resnet3d10")[0]
    assert entry.parameters == 14_604_624
    assert (entry.frames, entry.size) == (16, 112)
    # The stem, by hand: 16 x 56 x 56 places, 64 filters of 3 x 7 x 7 x 7.
    stem = 16 * 56 * 56 * 64 * 3 * math.prod((7, 7, 7))
    assert stem < entry.multiply_adds < 3 * stem


def test_filters():
    assert {entry.name for entry in catalog("X3D_")} == {"x3d_xs", "x3d_s", "x3d_m", "x3d_l"}
    assert [entry.name for entry in catalog("mvit_v?_b")] == ["mvit_v1_b"]
    assert catalog("*_b*")[0].name == "vgg16_bn"
    with pytest.raises(UsageError, match=r"No network is called 'nothing'"):
        api.list_models("nothing")


def test_the_table_on_the_command_line():
    result = CliRunner().invoke(app, ["models", "*3d_18"])
    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if line.startswith("r3d_18"))
    expected = ["r3d_18", "3D", "16x112", "33.37", "40.70", "Kinetics-400", "1711.11248"]
    assert line.split() == expected
    assert "hf:ORG/NAME" in result.output


def test_the_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["models"]).output.splitlines()
    first = {line.split()[0] for line in lines if line}
    assert {*SHORT_NAMES, *CLIP_BACKBONES} <= first  # no name is broken


def test_json_on_the_command_line():
    result = CliRunner().invoke(app, ["models", "resnet3d1*", "--json"])
    rows = json.loads(result.output)
    assert [row["name"] for row in rows] == ["resnet3d10", "resnet3d18", "resnet3d101",
                                             "resnet3d152"]  # fmt: skip
    assert rows[0]["weights"] == "" and rows[0]["kind"] == "3D"
    assert rows == api.list_models("resnet3d1*")
