"""Metrics: pure functions from embeddings, ranks and assignments to numbers.

Names are looked up when they are used, so that reports can take the statistics without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnlab.metrics.actions import (
        align_steps,
        best_frames,
        chance_average_precision,
        pooled_recall_by_task,
        predicted_interval,
        recall_by_task,
        step_average_precision,
        step_hits,
        temporal_iou,
    )
    from mcnlab.metrics.clustering import (
        adjusted_mutual_information,
        adjusted_rand_index,
        cluster_purity,
        contingency,
        matched_accuracy,
        mean_cluster_entropy,
        mean_cluster_purity,
        normalized_mutual_information,
    )
    from mcnlab.metrics.detection import box_average_precision, box_iou, correct_localization, mean_average_precision
    from mcnlab.metrics.geometry import alignment, modality_gap, uniformity
    from mcnlab.metrics.localization import area_under_successes, boxes_of_maps, consensus_iou, pointing_hits
    from mcnlab.metrics.retrieval import (
        published_retrieval_metrics,
        ranks_of_true_match,
        retrieval_metrics,
        retrieval_ranks,
        same_label_share,
        summary_of_ranks,
    )
    from mcnlab.metrics.segments import published_viterbi_alignment, segment_overlap, viterbi_alignment
    from mcnlab.metrics.statistics import (
        bootstrap_of_mean,
        bootstrap_of_ranks,
        holm,
        mean_interval,
        paired_test,
    )
    from mcnlab.metrics.tiles import ranks_both_ways
    from mcnlab.metrics.transfer import (
        area_under_roc,
        average_precision,
        d_prime,
        eleven_point_average_precision,
        mean_over_classes,
        top_k_hits,
    )
    from mcnlab.metrics.video_retrieval import chance_by_video, ranks_by_video

_HOME = {
    "actions": (
        "align_steps",
        "best_frames",
        "chance_average_precision",
        "pooled_recall_by_task",
        "predicted_interval",
        "recall_by_task",
        "step_average_precision",
        "step_hits",
        "temporal_iou",
    ),
    "clustering": (
        "adjusted_mutual_information",
        "adjusted_rand_index",
        "cluster_purity",
        "contingency",
        "matched_accuracy",
        "mean_cluster_entropy",
        "mean_cluster_purity",
        "normalized_mutual_information",
    ),
    "detection": ("box_average_precision", "box_iou", "correct_localization", "mean_average_precision"),
    "geometry": ("alignment", "modality_gap", "uniformity"),
    "localization": ("area_under_successes", "boxes_of_maps", "consensus_iou", "pointing_hits"),
    "retrieval": (
        "published_retrieval_metrics",
        "ranks_of_true_match",
        "retrieval_metrics",
        "retrieval_ranks",
        "same_label_share",
        "summary_of_ranks",
    ),
    "segments": ("published_viterbi_alignment", "segment_overlap", "viterbi_alignment"),
    "statistics": ("bootstrap_of_mean", "bootstrap_of_ranks", "holm", "mean_interval", "paired_test"),
    "tiles": ("ranks_both_ways",),
    "transfer": (
        "area_under_roc",
        "average_precision",
        "d_prime",
        "eleven_point_average_precision",
        "mean_over_classes",
        "top_k_hits",
    ),
    "video_retrieval": ("chance_by_video", "ranks_by_video"),
}

__all__ = [
    "adjusted_mutual_information",
    "adjusted_rand_index",
    "align_steps",
    "alignment",
    "area_under_roc",
    "area_under_successes",
    "average_precision",
    "best_frames",
    "bootstrap_of_mean",
    "bootstrap_of_ranks",
    "box_average_precision",
    "box_iou",
    "boxes_of_maps",
    "chance_average_precision",
    "chance_by_video",
    "cluster_purity",
    "consensus_iou",
    "contingency",
    "correct_localization",
    "d_prime",
    "eleven_point_average_precision",
    "holm",
    "matched_accuracy",
    "mean_average_precision",
    "mean_cluster_entropy",
    "mean_cluster_purity",
    "mean_interval",
    "mean_over_classes",
    "modality_gap",
    "normalized_mutual_information",
    "paired_test",
    "pointing_hits",
    "pooled_recall_by_task",
    "predicted_interval",
    "published_retrieval_metrics",
    "published_viterbi_alignment",
    "ranks_both_ways",
    "ranks_by_video",
    "ranks_of_true_match",
    "recall_by_task",
    "retrieval_metrics",
    "retrieval_ranks",
    "same_label_share",
    "segment_overlap",
    "step_average_precision",
    "step_hits",
    "summary_of_ranks",
    "temporal_iou",
    "top_k_hits",
    "uniformity",
    "viterbi_alignment",
]


def __getattr__(name: str) -> Any:
    """Load the module of a metric on its first use."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
