/* libreasondistill: teaches small T5 models to reason, from the answers of a large teacher behind an API.
 * Everything in the order in which data flows. */
#ifndef REASONDISTILL_H
#define REASONDISTILL_H

#include "reasondistill/status.h"
#include "reasondistill/ctx.h"
#include "reasondistill/reply.h"
#include "reasondistill/teacher.h"
#include "reasondistill/tokenizer.h"
#include "reasondistill/format.h"
#include "reasondistill/aligner.h"
#include "reasondistill/batch.h"
#include "reasondistill/dataset.h"
#include "reasondistill/t5.h"
#include "reasondistill/loss.h"
#include "reasondistill/optimizer.h"
#include "reasondistill/trainer.h"
#include "reasondistill/evaluator.h"

#endif
