"""What an experiment did, in the few words that a table or a sentence needs; read from its resolved settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mcnlab.modalities import MODALITIES, group_name, in_order, pair_modalities, pair_place, pairs_among, pairs_with

PAIRS = pairs_among(MODALITIES)
"""All pairs of the modalities of narrated videos, in the order of tables."""
CONTROL, ONE_PAIR, ALL_PAIRS, MORE_TERMS, STAGED = "control", "one pair", "all pairs", "more terms", "in stages"
PREDICTION = "prediction"
FAMILIES = (ONE_PAIR, ALL_PAIRS, PREDICTION, MORE_TERMS, STAGED, CONTROL)
"""Kinds of experiments, in the order of tables; each has its color."""
USUAL_LOSS = "masked_margin_softmax"
"""Contrastive loss that tables do not name."""
USUAL_METRIC = "multi_similarity"
"""Loss of labeled embeddings that tables do not name."""
GUIDES = {"expert": "own names", "pseudo": "pseudo-names", "shuffled": "shuffled names"}
"""What tables call the names that guide."""


@dataclass(frozen=True)
class Recipe:
    """An experiment's combination: which pairs, in which spaces, by which terms, in which order."""

    pairs: tuple[str, ...]
    graph: str = "shared"
    terms: tuple[str, ...] = ("contrast",)
    stages: tuple[str, ...] = ()
    """Initials of the modalities of each stage: `VA`, `VAT`, `V+depth`."""
    mode: str = "sound"
    precision: str = "float32"
    shuffled: bool = False
    dealt: tuple[str, ...] = ()
    """Modalities that are dealt to other clips, where not both audio and text are."""
    missing: tuple[tuple[str, float], ...] = ()
    """Modality and share of the training clips that lack it."""
    loss: str = USUAL_LOSS
    """Of the contrast term."""
    alone: tuple[str, ...] = ()
    """Modalities that train and are compared with no other."""
    teacher: str = ""
    """The experiment that it learns from."""
    metric: str = USUAL_METRIC
    """Loss of the term of labeled embeddings."""
    guided: str = ""
    """Whose names say how classes are to lie to each other: a key of `GUIDES`; empty without guidance."""

    @property
    def family(self) -> str:
        """One of `FAMILIES`."""
        if self.shuffled or self.guided == "shuffled":
            return CONTROL
        if len(self.stages) > 1:
            return STAGED
        if "predict" in self.terms and "contrast" not in self.terms:
            return PREDICTION
        if self.terms != ("contrast",):
            return MORE_TERMS
        return ONE_PAIR if len(self.pairs) == 1 else ALL_PAIRS

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose tower was trained."""
        return in_order([*self.alone, *(modality for pair in self.pairs for modality in pair_modalities(pair))])

    @property
    def in_words(self) -> str:
        """One line for a table.

        Example:
            >>> Recipe(("va", "vt"), terms=("contrast", "cluster"), stages=("VA", "VAT")).in_words
            'VA VT · contrast + cluster · stages VA, VAT'
        """
        alone = f"{' and '.join(self.alone)} alone" if self.alone else ""
        kinds = {"contrast": "" if self.loss == USUAL_LOSS else self.loss.replace("_", " ")}
        kinds |= {"metric": "" if self.metric == USUAL_METRIC else self.metric, "guide": GUIDES.get(self.guided, "")}
        terms = (f"{term} ({kinds[term]})" if kinds.get(term) else term for term in self.terms)
        parts = [_pairs_in_words(self.pairs) or alone, " + ".join(terms)]
        if len(self.pairs) > 1 and self.graph != "shared":
            parts.append(f"{self.graph} spaces")
        if len(self.stages) > 1:
            parts.append("stages " + ", ".join(self.stages))
        parts += [word for word, usual in ((self.mode, "sound"), (self.precision, "float32")) if word != usual]
        parts += [f"{share:.0%} without {modality}" for modality, share in self.missing]
        return " · ".join(parts + [f"shuffled {' and '.join(self.dealt) or 'pairs'}"] * self.shuffled)

    @property
    def place(self) -> tuple[Any, ...]:
        """Sorts experiments for reading: one pair, all pairs, more terms, stages, control."""
        pairs = tuple(pair_place(pair) for pair in self.pairs)
        rest = (
            self.mode != "sound",
            self.mode,
            self.precision != "float32",
            self.precision,
            len(self.terms),
            self.terms,
        )
        return (FAMILIES.index(self.family), len(pairs), pairs, self.graph != "shared", self.graph, *rest, self.stages)


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that resolved settings describe; what they leave out is taken as usual.

    Args:
        settings: as a run folder holds them.

    Returns:
        The recipe.

    Example:
        >>> recipe_of({"stages": [{"modalities": ["video", "text"]}], "terms": {"contrast": {}}}).pairs
        ('vt',)
    """
    stages = [stage for stage in settings.get("stages") or [] if isinstance(stage, Mapping)]
    allowed = settings.get("pairs")
    used = {pair for stage in stages for pair in _stage_pairs(stage) if not allowed or pair in allowed}
    terms, data = settings.get("terms") or {}, settings.get("data") or {}
    paired = {modality for pair in used for modality in pair_modalities(pair)}
    return Recipe(
        pairs=tuple(sorted(used, key=pair_place)),
        graph=graph_name(settings.get("graph")),
        terms=tuple(name for name, value in terms.items() if value is not None) or ("contrast",),
        stages=tuple(_initials(stage) for stage in stages),
        mode=str(settings.get("mode") or "sound"),
        precision=str((settings.get("training") or {}).get("precision") or "float32"),
        shuffled=bool(data.get("shuffle_pairs") or data.get("shuffle")),
        dealt=tuple(data.get("shuffle") or ()),
        missing=tuple((str(m), float(share)) for m, share in (data.get("missing") or {}).items()),
        loss=str((terms.get("contrast") or {}).get("loss") or USUAL_LOSS),
        teacher=_teacher_name((terms.get("distill") or {}).get("teacher")),
        metric=str((terms.get("metric") or {}).get("loss") or USUAL_METRIC),
        guided="" if terms.get("guide") is None else str(terms["guide"].get("names") or "expert"),
        alone=in_order(m for stage in stages for m in stage["modalities"] if m not in paired),
    )


def graph_name(graph: object) -> str:
    """What tables call a graph: its name, also where it is written out."""
    return str(graph.get("name") or "written") if isinstance(graph, Mapping) else str(graph or "shared")


def _teacher_name(teacher: object) -> str:
    """What a teacher is called: its experiment, or its folder."""
    if isinstance(teacher, Mapping):
        return str(teacher.get("experiment") or "its teacher")
    return PurePath(str(teacher)).name if teacher else ""


def _stage_pairs(stage: Mapping[str, Any]) -> list[str]:
    """Pairs that a stage compares: those it names, else all among its modalities."""
    return stage.get("pairs") or list(pairs_among(stage["modalities"]))


def _initials(stage: Mapping[str, Any]) -> str:
    """V, A, T for the modalities of a stage, in that order, and the names of any others."""
    return group_name(in_order(stage["modalities"]))


def _pairs_in_words(pairs: Sequence[str]) -> str:
    """Initials as capitals, names as they are; many pairs of further views as what they are together."""
    known = in_order(modality for pair in pairs for modality in pair_modalities(pair))
    if len(pairs) > 1 and not set(pairs) <= set(PAIRS):
        if set(pairs) == set(pairs_among(known)):
            return f"all pairs of {', '.join(known)}"
        for core in known:
            if set(pairs) == set(pairs_with(core, known)):
                return f"{core} with {', '.join(one for one in known if one != core)}"
    return " ".join(pair.upper() if pair in PAIRS else pair for pair in pairs)
