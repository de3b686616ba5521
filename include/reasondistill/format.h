/* The four formats of the training and test items (Fu et al. 2023), and how a final answer is found. */
#ifndef REASONDISTILL_FORMAT_H
#define REASONDISTILL_FORMAT_H

#include "reasondistill/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rsd_format {
    RSD_FORMAT_ZS_AO,  /* zero-shot, answer only */
    RSD_FORMAT_ZS_COT, /* zero-shot, chain of thought */
    RSD_FORMAT_IC_AO,  /* in-context, answer only */
    RSD_FORMAT_IC_COT  /* in-context, chain of thought */
} rsd_format;
enum { RSD_FORMATS = 4 };

/* How the final answer of a reply or an output is found: see evaluator.h. */
enum { RSD_PARSER_STRICT, RSD_PARSER_LENIENT, RSD_PARSER_REFERENCE };

/* "zs-ao", "zs-cot", "ic-ao", "ic-cot"; "?" for others. Static. */
RSD_API const char *rsd_format_name(int format);
/* The format of a name, or -1. */
RSD_API int rsd_format_parse(const char *name, size_t len);

#ifdef __cplusplus
}
#endif
#endif
