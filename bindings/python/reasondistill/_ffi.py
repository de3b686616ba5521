"""The C interface as ctypes sees it: structures, prototypes, and the library itself.

Every structure mirrors one of include/reasondistill/*.h field by field; tests/test_layout.py compares sizes and offsets with what a
C compiler says. Nothing outside this file calls ctypes.CDLL.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from ctypes import (CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int8, c_int32, c_int64, c_size_t, c_uint8,
                    c_uint32, c_uint64, c_void_p)
from typing import Any

OK, END, AGAIN = 0, 1, 2
EFORMAT = -4

LogFn = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
StepFn = CFUNCTYPE(c_int, c_void_p, c_void_p)
TokenFn = CFUNCTYPE(c_int, c_void_p, c_size_t, c_size_t, c_int32, c_float, c_int)
StopFn = CFUNCTYPE(c_int, c_void_p, c_size_t, POINTER(c_int32), c_size_t)
DifferFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t, c_int, c_int)
ProgressFn = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)


class CtxOptions(Structure):
    _fields_ = [("size", c_size_t), ("resize", c_void_p), ("resize_user", c_void_p), ("log", LogFn), ("log_user", c_void_p),
                ("seed", c_uint64), ("threads", c_int32), ("blas", c_int32), ("kernels", c_char_p)]


class TeacherOptions(Structure):
    _fields_ = [("size", c_size_t), ("url", c_char_p), ("model", c_char_p), ("prompt", c_char_p), ("prompt_len", c_size_t),
                ("question_template", c_char_p), ("store", c_char_p), ("api_key_env", c_char_p), ("api_key_file", c_char_p),
                ("temperature", c_double), ("timeout", c_double), ("connect_timeout", c_double), ("seed", c_uint64), ("api", c_int32),
                ("samples", c_int32), ("max_tokens", c_int32), ("top_logprobs", c_int32), ("concurrency", c_int32), ("retries", c_int32),
                ("system", c_char_p), ("system_len", c_size_t), ("stop", c_char_p), ("extra", c_char_p), ("headers", c_char_p),
                ("key_header", c_char_p), ("ca_file", c_char_p)] + \
               [(n, c_double) for n in ("top_p", "first_byte_timeout", "requests_per_minute", "tokens_per_minute", "price_prompt",
                                        "price_completion", "budget")] + \
               [("budget_tokens", c_uint64), ("max_body", c_uint64)] + \
               [(n, c_int32) for n in ("per_request", "need_logprobs", "insecure", "http2")] + \
               [("unreachable", c_uint64), ("max_wait", c_double), ("parser", c_int64)]


class Question(Structure):
    _fields_ = [("id", c_char_p), ("id_len", c_size_t), ("question", c_char_p), ("question_len", c_size_t), ("answer", c_char_p),
                ("answer_len", c_size_t)]


class TeacherStats(Structure):
    _fields_ = [("size", c_size_t)] + [(n, c_uint64) for n in ("queued", "in_flight", "stored", "already", "correct", "failed", "missing",
                                                              "retries", "prompt_tokens", "completion_tokens", "requests", "stopped", "api")] + \
               [("cost", c_double), ("come_back", c_uint64)]


class Fd(Structure):
    _fields_ = [("fd", c_int), ("events", c_int)]


class StoreReport(Structure):
    _fields_ = [("size", c_size_t)] + [(n, c_uint64) for n in ("rows", "questions", "labelled", "correct", "no_logprobs", "duplicates", "bad",
                                                              "torn", "voted", "voted_right")]


class QuestionStats(Structure):
    _fields_ = [("size", c_size_t), ("id", c_void_p), ("id_len", c_size_t), ("majority", c_void_p), ("majority_len", c_size_t)] + \
               [(n, c_uint64) for n in ("total", "labelled", "kept", "votes")] + [("majority_correct", c_int64)]


QuestionStatsFn = CFUNCTYPE(c_int, c_void_p, POINTER(QuestionStats))


class AlignerOptions(Structure):
    _fields_ = [("size", c_size_t), ("method", c_int32), ("cut_after_answer", c_int32), ("kind_weights", c_double * 8),
                ("top_logprobs", c_int64)]


class Alignment(Structure):
    _fields_ = [("size", c_size_t), ("text", c_void_p), ("text_len", c_size_t), ("teacher_first", c_size_t), ("n_teacher", c_size_t),
                ("n_student", c_size_t), ("student_ids", POINTER(c_int32)), ("map_offsets", POINTER(c_uint32)), ("map", POINTER(c_uint32)),
                ("row_offsets", POINTER(c_uint32)), ("row_ids", POINTER(c_int32)), ("row_probs", POINTER(c_float)),
                ("placed", POINTER(c_float)), ("given", POINTER(c_float)), ("kinds", POINTER(c_uint8)), ("tails", POINTER(c_float)),
                ("weights", POINTER(c_float))]


class AlignReport(Structure):
    _fields_ = [("size", c_size_t), ("replies", c_uint64), ("skipped", c_uint64), ("positions", c_uint64), ("kinds", c_uint64 * 8),
                ("placed", c_double), ("given", c_double), ("kind_placed", c_double * 8), ("kind_given", c_double * 8)]


class Batch(Structure):
    _fields_ = [("size", c_size_t), ("n", c_size_t), ("enc_ids", POINTER(c_int32)), ("enc_offsets", POINTER(c_uint32)),
                ("dec_ids", POINTER(c_int32)), ("dec_offsets", POINTER(c_uint32)), ("row_offsets", POINTER(c_uint32)),
                ("row_ids", POINTER(c_int32)), ("row_probs", POINTER(c_float)), ("tails", POINTER(c_float)), ("kinds", POINTER(c_uint8)),
                ("weights", POINTER(c_float)), ("formats", POINTER(c_uint8)), ("seq_weights", POINTER(c_float)), ("signs", POINTER(c_int8)),
                ("loss_slots", POINTER(c_uint8)), ("n_chunks", c_size_t), ("chunk_begin", POINTER(c_uint32)),
                ("chunk_end", POINTER(c_uint32)), ("chunk_logprobs", POINTER(c_float)), ("top_k", c_size_t), ("top_probs", POINTER(c_float))]


class BuildOptions(Structure):
    _fields_ = [("size", c_size_t), ("questions", c_char_p), ("aligned", c_char_p), ("out", c_char_p), ("seed", c_uint64),
                ("formats", c_uint32), ("shots", c_int32), ("keep", c_int32), ("reserved", c_int32), ("task", c_char_p),
                ("hold_out", POINTER(c_char_p)), ("n_hold_out", c_size_t), ("drop_held_out", c_int32), ("demos", c_int32)]


class BuildReport(Structure):
    _fields_ = [("size", c_size_t)] + [(n, c_uint64) for n in ("questions", "replies", "kept", "wrong", "unknown", "no_question", "held_out")]


class DatasetOptions(Structure):
    _fields_ = [("size", c_size_t), ("weights", c_double * 8), ("seed", c_uint64), ("batch_tokens", c_uint64), ("rank", c_uint32),
                ("world", c_uint32), ("max_enc", c_int32), ("max_dec", c_int32), ("soft", c_int32), ("mix", c_int32)]


class DatasetInfo(Structure):
    _fields_ = [("size", c_size_t), ("questions", c_uint64), ("replies", c_uint64), ("items", c_uint64 * 8), ("left_out", c_uint64),
                ("batches", c_uint64), ("inputs", c_uint64 * 8), ("targets", c_uint64 * 8)]


class Param(Structure):
    _fields_ = [("size", c_size_t), ("name", c_char_p), ("ndim", c_size_t), ("shape", c_size_t * 2), ("count", c_size_t), ("layer", c_size_t),
                ("frozen", c_int32), ("reserved", c_int32)]


class T5Info(Structure):
    _fields_ = [("size", c_size_t), ("parameters", c_uint64), ("bytes", c_uint64)] + \
               [(n, c_int64) for n in ("d_model", "d_kv", "d_ff", "heads", "encoder_layers", "decoder_layers", "vocab")] + \
               [(n, c_int32) for n in ("dtype", "gated", "tied", "memory_dtype")] + [("dropout", c_double)]


class Tile(Structure):
    _fields_ = [("size", c_size_t), ("logits", POINTER(c_float))] + \
               [(n, c_size_t) for n in ("ld", "vocab", "first_sequence", "n_sequences", "first_position", "n_positions")]


TileFn = CFUNCTYPE(c_int, c_void_p, POINTER(Tile))


class GenerateOptions(Structure):
    _fields_ = [("size", c_size_t), ("max_tokens", c_int32), ("batch", c_int32), ("mode", c_int32), ("n", c_int32), ("temperature", c_double),
                ("top_p", c_double), ("seed", c_uint64), ("first_input", c_uint64), ("top_k", c_int32), ("beams", c_int32),
                ("early_stopping", c_int32), ("repeat_stop", c_int32), ("repeat_span", c_int32), ("vocab", c_int32),
                ("length_penalty", c_double), ("stop", StopFn), ("stop_user", c_void_p)]


class LossOptions(Structure):
    _fields_ = [("size", c_size_t), ("kind", c_int32), ("tail", c_int32)] + \
               [(n, c_double) for n in ("alpha", "temperature", "label_smoothing", "unlikelihood", "weight")]


class LossResult(Structure):
    _fields_ = [("size", c_size_t), ("loss", c_double), ("weight", c_double), ("positions", c_uint64), ("correct", c_uint64),
                ("format_loss", c_double * 8), ("format_weight", c_double * 8)]


class OptimizerOptions(Structure):
    _fields_ = [("size", c_size_t)] + [(n, c_double) for n in ("beta1", "beta2", "eps", "decay", "clip")] + \
               [("kind", c_int32), ("reserved", c_int32)] + \
               [(n, c_double) for n in ("clip_tensor", "update_clip", "decay_rate", "factor_eps", "scale_floor", "momentum")] + \
               [("seed", c_uint64)] + \
               [(n, c_int32) for n in ("relative_step", "scale_parameter", "warmup_init", "masters", "fused", "reserved2")]


class Step(Structure):
    _fields_ = [("size", c_size_t), ("step", c_uint64), ("steps", c_uint64)] + \
               [(n, c_double) for n in ("loss", "lr", "grad_norm", "accuracy", "seconds", "tokens_per_second", "seconds_left")] + \
               [("tokens", c_uint64), ("watched", c_double), ("best", c_double), ("best_step", c_uint64), ("stopped", c_int32), ("reserved", c_int32)]


class Mixture(Structure):
    _fields_ = [("size", c_size_t), ("items", c_uint64 * 8), ("targets", c_uint64 * 8), ("loss", c_double * 8), ("norm", c_double * 8),
                ("gradient", c_double * 8), ("batches", c_uint64), ("batch_items", c_uint64 * 8)]


class Paired(Structure):
    _fields_ = [("size", c_size_t)] + [(n, c_uint64) for n in ("both", "only_a", "only_b", "neither")] + \
               [(n, c_double) for n in ("p", "chi2", "p_chi2", "difference", "low", "high")]


class Fit(Structure):
    _fields_ = [("size", c_size_t), ("n", c_uint64)] + [(n, c_double) for n in ("slope", "intercept", "slope_low", "slope_high", "r2", "error")]


class EvaluatorOptions(Structure):
    _fields_ = [("size", c_size_t), ("demos", c_char_p), ("seed", c_uint64)] + \
               [(n, c_int32) for n in ("format", "shots", "max_tokens", "batch", "limit", "reserved")] + \
               [("temperature", c_double), ("top_p", c_double), ("samples", c_int32), ("perplexity", c_int32), ("maj", c_int32 * 8),
                ("cache", c_char_p), ("label", c_char_p)]


class Score(Structure):
    _fields_ = [("size", c_size_t), ("n", c_uint64), ("correct", c_uint64), ("no_answer", c_uint64)] + \
               [(n, c_double) for n in ("accuracy", "low", "high", "mean_tokens", "seconds")] + \
               [(n, c_uint64) for n in ("outputs", "lenient_correct", "lenient_no_answer", "reference_correct")] + \
               [(n, c_double) for n in ("lenient_accuracy", "lenient_low", "lenient_high", "reference_accuracy", "answer_perplexity",
                                        "rationale_perplexity")] + \
               [("maj", c_double * 8), ("lenient_maj", c_double * 8), ("reused", c_int32), ("reserved", c_int32)]


class GridOptions(Structure):
    _fields_ = [("size", c_size_t), ("cache", c_char_p), ("demos", c_char_p), ("seed", c_uint64)] + \
               [(n, c_int32) for n in ("shots", "max_tokens", "batch", "limit", "parser", "perplexity")]


class GridSet(Structure):
    _fields_ = [("size", c_size_t), ("name", c_char_p), ("task", c_char_p), ("data", c_char_p), ("demos", c_char_p)] + \
               [(n, c_int32) for n in ("format", "role", "shots", "max_tokens", "batch", "limit")]


class Sweep(Structure):
    _fields_ = [("size", c_size_t), ("base", c_char_p), ("tuned", POINTER(c_char_p)), ("weights", POINTER(c_double)), ("n_tuned", c_size_t),
                ("alphas", POINTER(c_double)), ("n_alphas", c_size_t), ("save", c_char_p)]


# C name of each structure, for the test of their layout.
STRUCTURES = {
    "rsd_ctx_options": CtxOptions, "rsd_teacher_options": TeacherOptions, "rsd_question": Question, "rsd_teacher_stats": TeacherStats,
    "rsd_fd": Fd, "rsd_store_report": StoreReport, "rsd_question_stats": QuestionStats,
    "rsd_aligner_options": AlignerOptions, "rsd_alignment": Alignment, "rsd_align_report": AlignReport, "rsd_batch": Batch,
    "rsd_build_options": BuildOptions, "rsd_build_report": BuildReport, "rsd_dataset_options": DatasetOptions,
    "rsd_dataset_info": DatasetInfo, "rsd_param": Param, "rsd_t5_info": T5Info, "rsd_tile": Tile,
    "rsd_generate_options": GenerateOptions, "rsd_loss_options": LossOptions, "rsd_loss_result": LossResult,
    "rsd_optimizer_options": OptimizerOptions, "rsd_step": Step, "rsd_mixture": Mixture, "rsd_paired": Paired, "rsd_fit": Fit, "rsd_grid_options": GridOptions, "rsd_grid_set": GridSet, "rsd_sweep": Sweep, "rsd_evaluator_options": EvaluatorOptions, "rsd_score": Score,
}

_P = c_void_p  # any handle
_OUT = POINTER(c_void_p)
_STR, _LEN = POINTER(c_void_p), POINTER(c_size_t)  # borrowed bytes and their length
_I32, _U32, _F32 = POINTER(c_int32), POINTER(c_uint32), POINTER(c_float)

# name: (result, arguments)
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "rsd_strerror": (c_char_p, [c_int]), "rsd_version": (c_char_p, []),
    "rsd_ctx_options_init": (c_int, [POINTER(CtxOptions), c_size_t]), "rsd_ctx_open": (c_int, [POINTER(CtxOptions), _OUT]),
    "rsd_ctx_close": (None, [_P]), "rsd_ctx_error": (c_char_p, [_P]), "rsd_ctx_threads": (c_int, [_P]), "rsd_ctx_backend": (c_char_p, [_P]),
    "rsd_ctx_kernels": (c_char_p, [c_size_t]),
    "rsd_tokenizer_open": (c_int, [_P, c_char_p, _OUT]), "rsd_tokenizer_close": (None, [_P]),
    "rsd_tokenizer_encode": (c_int, [_P, c_char_p, c_size_t, POINTER(_I32), _LEN]),
    "rsd_tokenizer_spans": (c_int, [_P, POINTER(_U32), POINTER(_U32)]),
    "rsd_tokenizer_decode": (c_int, [_P, _I32, c_size_t, _STR, _LEN]), "rsd_tokenizer_piece": (c_int, [_P, c_int32, _STR, _LEN]),
    "rsd_tokenizer_size": (c_int32, [_P]), "rsd_tokenizer_eos": (c_int32, [_P]), "rsd_tokenizer_pad": (c_int32, [_P]),
    "rsd_tokenizer_open_pattern": (c_int, [_P, c_char_p, c_char_p, _OUT]), "rsd_tokenizer_bytes": (c_int, [_P]),
    "rsd_tokenizer_pattern": (c_char_p, [_P]),
    "rsd_tokenizer_unk": (c_int32, [_P]), "rsd_tokenizer_hash": (c_char_p, [_P]), "rsd_tokenizer_path": (c_char_p, [_P]),
    "rsd_reply_parse": (c_int, [_P, c_char_p, c_size_t, c_size_t, c_int, _OUT]), "rsd_reply_close": (None, [_P]),
    "rsd_reply_id": (c_void_p, [_P, _LEN]), "rsd_reply_question": (c_void_p, [_P, _LEN]), "rsd_reply_text": (c_void_p, [_P, _LEN]),
    "rsd_reply_sample": (c_int64, [_P]), "rsd_reply_correct": (c_int, [_P]), "rsd_reply_tokens": (c_size_t, [_P]),
    "rsd_reply_token": (c_int, [_P, c_size_t, _STR, _LEN, POINTER(c_double)]), "rsd_reply_tops": (c_size_t, [_P, c_size_t]),
    "rsd_reply_top": (c_int, [_P, c_size_t, c_size_t, _STR, _LEN, POINTER(c_double)]),
    "rsd_teacher_options_init": (c_int, [POINTER(TeacherOptions), c_size_t]),
    "rsd_teacher_open": (c_int, [_P, POINTER(TeacherOptions), _OUT]), "rsd_teacher_close": (None, [_P]),
    "rsd_teacher_submit": (c_int, [_P, POINTER(Question)]), "rsd_teacher_poll": (c_int, [_P, c_int, _OUT]),
    "rsd_teacher_wait_fds": (c_int, [_P, POINTER(Fd), c_size_t, _LEN, POINTER(c_int)]),
    "rsd_store_verify": (c_int, [_P, c_char_p, POINTER(StoreReport)]), "rsd_store_compact": (c_int, [_P, c_char_p, POINTER(StoreReport)]),
    "rsd_store_gzip": (c_int, [_P, c_char_p, c_char_p, POINTER(StoreReport)]),
    "rsd_store_stats": (c_int, [_P, c_char_p, c_int, QuestionStatsFn, _P, POINTER(StoreReport)]),
    "rsd_teacher_stop": (c_int, [_P]), "rsd_teacher_stats_get": (c_int, [_P, POINTER(TeacherStats)]),
    "rsd_kind_name": (c_char_p, [c_int]), "rsd_aligner_options_init": (c_int, [POINTER(AlignerOptions), c_size_t]),
    "rsd_aligner_open": (c_int, [_P, _P, POINTER(AlignerOptions), _OUT]), "rsd_aligner_close": (None, [_P]),
    "rsd_aligner_align": (c_int, [_P, _P, POINTER(POINTER(Alignment))]), "rsd_aligner_json": (c_int, [_P, _STR, _LEN]),
    "rsd_aligner_heatmap": (c_int, [_P, _STR, _LEN]),
    "rsd_aligner_align_text": (c_int, [_P, _P, c_char_p, c_size_t, POINTER(POINTER(Alignment))]),
    "rsd_aligner_file": (c_int, [_P, c_char_p, c_char_p, c_int, POINTER(AlignReport)]),
    "rsd_format_name": (c_char_p, [c_int]), "rsd_format_parse": (c_int, [c_char_p, c_size_t]),
    "rsd_build_options_init": (c_int, [POINTER(BuildOptions), c_size_t]),
    "rsd_dataset_build": (c_int, [_P, POINTER(BuildOptions), POINTER(BuildReport)]),
    "rsd_dataset_convert": (c_int, [_P, c_char_p, c_char_p, c_char_p, POINTER(c_uint64)]),
    "rsd_dataset_disjoint": (c_int, [_P, c_char_p]),
    "rsd_dataset_options_init": (c_int, [POINTER(DatasetOptions), c_size_t]),
    "rsd_dataset_open": (c_int, [_P, c_char_p, _P, POINTER(DatasetOptions), _OUT]), "rsd_dataset_close": (None, [_P]),
    "rsd_dataset_batch_of": (c_int, [_P, c_uint64, c_uint32, POINTER(POINTER(Batch))]),
    "rsd_dataset_batch": (c_int, [_P, c_uint64, POINTER(POINTER(Batch))]), "rsd_dataset_info_get": (c_int, [_P, POINTER(DatasetInfo)]),
    "rsd_t5_open": (c_int, [_P, c_char_p, _OUT]), "rsd_t5_create": (c_int, [_P, c_char_p, c_uint64, _OUT]),
    "rsd_t5_open_as": (c_int, [_P, c_char_p, c_int, _OUT]),
    "rsd_t5_open_part": (c_int, [_P, c_char_p, c_int, c_int64, c_int64, _OUT]), "rsd_t5_create_as": (c_int, [_P, c_char_p, c_uint64, c_int, _OUT]),
    "rsd_t5_set_recompute": (c_int, [_P, c_int]), "rsd_t5_freeze": (c_int, [_P, c_char_p, c_int, POINTER(c_size_t)]),
    "rsd_t5_share": (c_int, [_P, _P, _OUT]), "rsd_t5_close": (None, [_P]), "rsd_t5_save": (c_int, [_P, c_char_p, c_int, c_char_p]),
    "rsd_t5_forward": (c_int, [_P, POINTER(Batch), c_int]), "rsd_t5_head": (c_int, [_P, c_void_p, _P]), "rsd_t5_backward": (c_int, [_P]),
    "rsd_t5_zero_grad": (c_int, [_P]), "rsd_t5_logits": (c_int, [_P, _F32, c_size_t]), "rsd_t5_logprobs": (c_int, [_P, _F32, c_size_t]),
    "rsd_t5_set_dropout": (c_int, [_P, c_double, c_uint64, c_uint64]), "rsd_t5_merge": (c_int, [_P, _P, c_double]),
    "rsd_t5_combine": (c_int, [_P, _OUT, POINTER(c_double), c_size_t]),
    "rsd_t5_params": (c_size_t, [_P]), "rsd_t5_param": (c_int, [_P, c_size_t, POINTER(Param)]),
    "rsd_t5_param_find": (c_int, [_P, c_char_p, POINTER(c_size_t)]), "rsd_t5_param_read": (c_int, [_P, c_size_t, _F32, c_size_t]),
    "rsd_t5_param_write": (c_int, [_P, c_size_t, _F32, c_size_t]), "rsd_t5_grad_read": (c_int, [_P, c_size_t, _F32, c_size_t]),
    "rsd_t5_info_get": (c_int, [_P, POINTER(T5Info)]), "rsd_t5_config": (c_char_p, [_P]),
    "rsd_generate_options_init": (c_int, [POINTER(GenerateOptions), c_size_t]),
    "rsd_t5_generate": (c_int, [_P, _I32, _U32, c_size_t, POINTER(GenerateOptions), TokenFn, _P]),
    "rsd_loss_options_init": (c_int, [POINTER(LossOptions), c_size_t]), "rsd_loss_open": (c_int, [_P, POINTER(LossOptions), _OUT]),
    "rsd_loss_close": (None, [_P]), "rsd_loss_set_format": (c_int, [_P, c_int, POINTER(LossOptions)]),
    "rsd_loss_kind_name": (c_char_p, [c_int]), "rsd_tail_name": (c_char_p, [c_int]), "rsd_loss_weight": (c_double, [POINTER(Batch)]), "rsd_loss_begin": (c_int, [_P, POINTER(Batch), c_double]),
    "rsd_loss_tile": (c_int, [_P, POINTER(Tile)]), "rsd_loss_result_get": (c_int, [_P, POINTER(LossResult)]),
    "rsd_optimizer_options_init": (c_int, [POINTER(OptimizerOptions), c_size_t]),
    "rsd_optimizer_open": (c_int, [_P, _P, POINTER(OptimizerOptions), _OUT]), "rsd_optimizer_close": (None, [_P]),
    "rsd_optimizer_backward": (c_int, [_P, c_double, POINTER(c_double)]), "rsd_optimizer_rate": (c_double, [_P, c_double]),
    "rsd_optimizer_step": (c_int, [_P, c_double, POINTER(c_double)]), "rsd_optimizer_steps": (c_uint64, [_P]),
    "rsd_trainer_open": (c_int, [_P, c_char_p, c_int, _OUT]), "rsd_trainer_close": (None, [_P]), "rsd_trainer_config": (c_char_p, [_P]),
    "rsd_trainer_mixture": (c_int, [_P, POINTER(Mixture)]), "rsd_trainer_set_progress": (None, [_P, ProgressFn, c_void_p]),
    "rsd_trainer_step": (c_int, [_P, POINTER(Step)]), "rsd_trainer_save": (c_int, [_P]), "rsd_trainer_directory": (c_char_p, [_P]),
    "rsd_evaluator_options_init": (c_int, [POINTER(EvaluatorOptions), c_size_t]),
    "rsd_evaluator_open": (c_int, [_P, _P, _P, POINTER(EvaluatorOptions), _OUT]), "rsd_evaluator_close": (None, [_P]),
    "rsd_evaluator_file": (c_int, [_P, c_char_p, c_char_p, c_char_p, ProgressFn, _P, POINTER(Score)]),
    "rsd_wilson": (None, [c_uint64, c_uint64, POINTER(c_double), POINTER(c_double)]), "rsd_log_odds": (c_double, [c_uint64, c_uint64]),
    "rsd_grid_options_init": (c_int, [POINTER(GridOptions), c_size_t]), "rsd_grid_open": (c_int, [_P, POINTER(GridOptions), _OUT]),
    "rsd_grid_close": (None, [_P]), "rsd_grid_add_set": (c_int, [_P, POINTER(GridSet)]), "rsd_grid_parse_set": (c_int, [_P, c_char_p, c_int]),
    "rsd_grid_run_sets": (c_int, [_P, c_char_p, POINTER(c_size_t)]), "rsd_grid_sets": (c_size_t, [_P]),
    "rsd_grid_model": (c_int, [_P, c_char_p, c_double, _P, _P, ProgressFn, _P]), "rsd_grid_run": (c_int, [_P, c_char_p, ProgressFn, _P]),
    "rsd_grid_sweep": (c_int, [_P, POINTER(Sweep), ProgressFn, _P]), "rsd_grid_rows": (c_size_t, [_P]),
    "rsd_rule_name": (c_char_p, [c_int]), "rsd_grid_choose": (c_int, [_P, c_int, POINTER(c_size_t)]),
    "rsd_grid_row_name": (c_char_p, [_P, c_size_t]), "rsd_grid_text": (c_int, [_P, POINTER(c_char_p)]),
    "rsd_grid_json": (c_int, [_P, POINTER(c_char_p)]),
    "rsd_compare_files": (c_int, [_P, c_char_p, c_char_p, c_int, DifferFn, _P, POINTER(Paired)]),
    "rsd_maj_at_k": (c_int, [_P, POINTER(c_uint64), c_size_t, c_size_t, c_uint64, c_uint64, POINTER(c_double)]),
    "rsd_mcnemar": (c_int, [c_uint64, c_uint64, c_uint64, c_uint64, POINTER(Paired)]),
    "rsd_fit_line": (c_int, [POINTER(c_double), POINTER(c_double), c_size_t, POINTER(Fit)]),
}


def load() -> ctypes.CDLL:
    """The library: $REASONDISTILL_LIBRARY, else what the system's linker finds."""
    name = os.environ.get("REASONDISTILL_LIBRARY") or ctypes.util.find_library("reasondistill") or "libreasondistill.so.0"
    try:
        library = ctypes.CDLL(name)
    except OSError as e:
        raise ImportError(f"libreasondistill was not found ({e}): install it, or set REASONDISTILL_LIBRARY to the path of libreasondistill.so.0") from e
    for function, (result, arguments) in PROTOTYPES.items():
        f = getattr(library, function)
        f.restype, f.argtypes = result, arguments
    return library


lib = load()


def borrowed(address: int | None, n: int) -> bytes:
    """A copy of n borrowed bytes."""
    return ctypes.string_at(address, n) if address and n else b""
