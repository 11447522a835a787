"""Helpers of the course *Inside BERT*: what more than one lesson uses, importable from here.

Importing this package touches neither the network nor torch; `start()` does the rest.
"""

from inside_bert.attention_views import head_view, load_view_scripts, model_view, neuron_view
from inside_bert.checks import check, check_shape, expect_error, largest_difference
from inside_bert.data import (
    DamagedDataError,
    data_folder,
    read_pairs,
    read_questions,
    read_reviews,
    read_squad,
    read_stories,
    read_texts,
    read_words,
    split_by_group,
    verify,
)
from inside_bert.exercises import check_exercise, progress
from inside_bert.finetuning import Recipe, fast_dtype, fine_tune, length_groups, predict
from inside_bert.inputs import encode
from inside_bert.runtime import HubUnavailableError, Run, start
from inside_bert.show import show_figure, show_table, show_tokens
from inside_bert.spans import (
    Prediction,
    Span,
    Window,
    answer_f1,
    answer_span,
    best_spans,
    exact_match,
    fine_tune_spans,
    make_windows,
    normalize_answer,
    predict_spans,
    window_logits,
)
from inside_bert.training import Watch

__all__ = [
    "DamagedDataError",
    "HubUnavailableError",
    "Prediction",
    "Recipe",
    "Run",
    "Span",
    "Watch",
    "Window",
    "answer_f1",
    "answer_span",
    "best_spans",
    "check",
    "check_exercise",
    "check_shape",
    "data_folder",
    "encode",
    "exact_match",
    "expect_error",
    "fast_dtype",
    "fine_tune",
    "fine_tune_spans",
    "head_view",
    "largest_difference",
    "length_groups",
    "load_view_scripts",
    "make_windows",
    "model_view",
    "neuron_view",
    "normalize_answer",
    "predict",
    "predict_spans",
    "progress",
    "read_pairs",
    "read_questions",
    "read_reviews",
    "read_squad",
    "read_stories",
    "read_texts",
    "read_words",
    "show_figure",
    "show_table",
    "show_tokens",
    "split_by_group",
    "start",
    "verify",
    "window_logits",
]
