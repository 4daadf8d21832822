"""A fusion as a value that can be kept: a rule with its weights, or what was learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.fusion import Rule, fuse
from kinema.fusion_tables import Stream
from kinema.scores import Kind, Scores
from kinema.trained_fusion import SCORES, StreamKind, TrainedFusion, apply_trained


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """How the scores of streams become one; see `average_by` and `as_learned`.

    Attributes:
        rule: of a weighted average; None: learned.
        weights: of a weighted average, one per stream.
        facts: of a learned fusion, as `kinema.trained_fusion.fuse_trained` gives them.
        parameters: of the same, plain arrays by name.
    """

    rule: Rule | None = None
    weights: tuple[float, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The rule, or the method that was learned."""
        return self.rule or str(self.facts["method"])

    @property
    def takes(self) -> tuple[StreamKind, ...]:
        """What it takes of every stream."""
        if self.rule:
            return (SCORES,) * len(self.weights)
        return tuple(self.facts["streams"])

    def check_kinds(self, kinds: Sequence[Kind]) -> None:
        """Refuse scores that cannot be fused so, before they are made.

        Args:
            kinds: what the scores of each stream will be.

        Raises:
            UsageError: the rule adds logits, and a stream has probabilities.
        """
        if self.rule == "logits" and "probabilities" in kinds:
            raise UsageError(
                "The streams are fused by their logits, which this protocol does not give: choose "
                "a --protocol that averages logits, or leave it out."
            )

    def fuse(self, streams: Sequence[Stream]) -> Scores:
        """Return what `kinema fuse` gives for these streams, which come in the order of the fusion.

        Args:
            streams: of each what it `takes`.

        Raises:
            KinemaError: videos or classes that do not fit each other.
            UsageError: another number of streams.
        """
        if self.rule:
            scores = [stream for stream in streams if isinstance(stream, Scores)]
            return fuse(scores, rule=self.rule, weights=self.weights)
        return apply_trained(streams, facts=self.facts, parameters=self.parameters)

    def entry(self) -> dict[str, Any]:
        """Return all but the parameters as plain values for JSON."""
        if self.rule:
            return {"rule": self.rule, "weights": list(self.weights)}
        return {"learned": dict(self.facts)}


def average_by(rule: Rule, weights: Sequence[float]) -> Fusion:
    """Return the fusion by a rule of `kinema.fusion.fuse`, with one weight per stream."""
    return Fusion(rule=rule, weights=tuple(float(weight) for weight in weights))


def as_learned(learned: TrainedFusion) -> Fusion:
    """Return the fusion that `fuse_trained` found."""
    return Fusion(facts=learned.facts, parameters=learned.parameters)


def fusion_of(entry: Mapping[str, Any], parameters: Mapping[str, NDArray[Any]]) -> Fusion:
    """Return the fusion of what `Fusion.entry` gave, with its parameters."""
    if "rule" in entry:
        return average_by(entry["rule"], entry["weights"])
    return Fusion(facts=entry["learned"], parameters=parameters)
