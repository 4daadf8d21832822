"""The page of the doctor: findings with pictures, and figures; one HTML file, nothing else."""

from pathlib import Path

from kinema.datasets.doctor import Diagnosis
from kinema.datasets.index import PARTS
from kinema.files import write_text
from kinema.html_templates import html_templates
from kinema.mistakes import thumbnail

_MOST_PICTURES = 6  # of a finding
_MOST_CLASSES = 60  # with a picture each


def write_doctor_page(found: Diagnosis, out: Path) -> None:
    """Write what the doctor found as a page that needs neither files nor the network.

    Args:
        found: from `kinema.datasets.doctor.examine`.
        out: HTML file.
    """
    pictures = _Pictures(found)
    page = (
        html_templates()
        .get_template("doctor.html.jinja")
        .render(
            title=found.folder.resolve().name,
            facts=found.facts,
            counts={level: found.count(level) for level in ("problem", "warning", "note")},
            findings=[
                (finding, [(id, pictures.of(id)) for id in finding.examples[:_MOST_PICTURES]])
                for finding in found.findings
            ],
            parts=PARTS,
            most=max((sum(parts.values()) for parts in found.facts.classes.values()), default=1)
            or 1,
            gallery=_gallery(found, pictures),
            charts=(
                ("Length, frames", found.facts.lengths),
                ("Size, pixels", found.facts.sizes),
                ("Rate, frames per second", found.facts.rates),
            ),
        )
    )
    write_text(out, page)


class _Pictures:
    """Thumbnails by id, each made once."""

    def __init__(self, found: Diagnosis) -> None:
        self._paths = {video.id: video.path for video in found.index.videos}
        self._made: dict[Path, str] = {}

    def of(self, id: str) -> str:
        """Return a picture of a video as a data URI; empty where it cannot be read."""
        path = self._paths[id]
        if path not in self._made:
            self._made[path] = thumbnail(path)
        return self._made[path]


def _gallery(found: Diagnosis, pictures: _Pictures) -> list[tuple[str, str, str]]:
    """Return (class, id, picture) of one video of each class."""
    first: dict[str, str] = {}
    for video in found.index.videos:
        first.setdefault(video.label, video.id)
    names = [name for name in found.index.classes if name in first][:_MOST_CLASSES]
    return [(name, first[name], pictures.of(first[name])) for name in names]
