"""libreasondistill in Python: handles are context managers, errors are exceptions with the library's own message, arrays are NumPy's.

    with Context() as ctx, Tokenizer(ctx, "student") as tok, T5(ctx, "student") as model:
        ids = tok.encode("Q: ...")
        print(tok.decode(model.generate([[*ids, tok.eos]])[0]))
"""

from ._ffi import lib as _lib
from ._handle import Context, Error, Handle, kernel_names
from .evaluation import Evaluator, Fit, Grid, Paired, Score, bootstrap, compare_files, fit_line, log_odds, maj_at_k, mcnemar, wilson
from .model import T5, Batch, Loss, Optimizer
from .run import Dataset, Share, Step, Trainer, build_dataset, convert_questions
from .text import Aligner, Alignment, Collected, QuestionStats, Reply, Teacher, Tokenizer, compact_store, store_stats, verify_store

__version__: str = _lib.rsd_version().decode()

__all__ = ["Context", "Error", "Handle", "__version__", "kernel_names",
           "Evaluator", "Fit", "Grid", "Paired", "Score", "bootstrap", "compare_files", "fit_line", "log_odds", "maj_at_k", "mcnemar", "wilson",
           "Batch", "Loss", "Optimizer", "T5",
           "Dataset", "Share", "Step", "Trainer", "build_dataset", "convert_questions",
           "Aligner", "Alignment", "Collected", "QuestionStats", "Reply", "Teacher", "Tokenizer", "compact_store", "store_stats", "verify_store"]
