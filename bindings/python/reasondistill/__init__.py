"""libreasondistill in Python: handles are context managers, errors are exceptions with the library's own message, arrays are NumPy's.

    with Context() as ctx, Tokenizer(ctx, "student") as tok, T5(ctx, "student") as model:
        ids = tok.encode("Q: ...")
        print(tok.decode(model.generate([[*ids, tok.eos]])[0]))
"""

from ._ffi import lib as _lib
from ._handle import Context, Error, Handle
from .model import T5, Batch, Loss, Optimizer
from .run import Evaluator, Score, Step, Trainer, build_dataset, convert_questions
from .text import (Aligner, Alignment, Collected, QuestionStats, Reply, Teacher, Tokenizer, compact_store, store_stats, verify_store)

__version__: str = _lib.rsd_version().decode()

__all__ = ["Aligner", "Alignment", "Batch", "Collected", "Context", "Error", "Evaluator", "Handle", "Loss", "Optimizer",
           "QuestionStats", "Reply", "Score", "Step", "T5", "Teacher", "Tokenizer", "Trainer", "build_dataset", "compact_store", "convert_questions",
           "store_stats",
           "verify_store", "__version__"]
