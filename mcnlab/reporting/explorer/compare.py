"""How differently two runs see the same clips, in numbers."""

from mcnlab.errors import DataError
from mcnlab.reporting.explorer.data import ALL_MODALITIES, ExplorerData
from mcnlab.reporting.explorer_neighbors import changed_neighbors, neighbors_to_compare


def seen_differently(data: ExplorerData, *, count: int = 10) -> dict[str, str | int | float]:
    """How many of a clip's nearest neighbors are the same in the two runs that the explorer begins with.

    Args:
        data: the runs.
        count: neighbors per clip; fewer where there are few clips.

    Returns:
        `left`, `right` (names of the runs), `embedding` (the first modality that both have), `clips`,
        `neighbors` (of each clip that were compared), `kept` (mean share of them, from 0 to 1), `most_changed` (id of
        the clip that kept fewest).

    Raises:
        DataError: the runs have no modality in common, or too few clips.
    """
    left, right = data.first_two()
    own, others = ({name.split("@")[0]: name for name in reversed(data.choices(run))} for run in (left, right))
    common = [kind for kind in reversed(own) if kind in others and kind != ALL_MODALITIES]
    if not common:
        raise DataError(f"{left} and {right}: no modality that both have")
    first, second = data.embeddings(left)[own[common[0]]], data.embeddings(right)[others[common[0]]]
    compared = neighbors_to_compare(first, second, most=count)
    table = changed_neighbors(first, second, count=compared)
    return {
        "left": left,
        "right": right,
        "embedding": common[0],
        "clips": len(table),
        "neighbors": compared,
        "kept": float(table["kept"].mean()),
        "most_changed": str(data.clips["id"].iloc[int(table["row"].iloc[0])]),
    }
