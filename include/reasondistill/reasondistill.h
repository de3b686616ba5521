/* libreasondistill: teaches small T5 models to reason, from the answers of a large teacher behind an API.
 * Data flows teacher, reply, aligner, dataset, t5 with loss and optimizer, trainer, evaluator. */
#ifndef REASONDISTILL_H
#define REASONDISTILL_H

#include "reasondistill/aligner.h"
#include "reasondistill/batch.h"
#include "reasondistill/ctx.h"
#include "reasondistill/dataset.h"
#include "reasondistill/evaluator.h"
#include "reasondistill/format.h"
#include "reasondistill/grid.h"
#include "reasondistill/loss.h"
#include "reasondistill/optimizer.h"
#include "reasondistill/reply.h"
#include "reasondistill/statistics.h"
#include "reasondistill/status.h"
#include "reasondistill/t5.h"
#include "reasondistill/teacher.h"
#include "reasondistill/tokenizer.h"
#include "reasondistill/trainer.h"

#endif
