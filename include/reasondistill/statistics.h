/* The statistics of evaluations: intervals, majority votes, two models on the same items, a line through a family of sizes. Functions
 * of their arguments alone, without a context unless they need memory. */
#ifndef REASONDISTILL_STATISTICS_H
#define REASONDISTILL_STATISTICS_H

#include "reasondistill/ctx.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 95 % Wilson interval of k successes in n (Wilson 1927); n = 0 gives [0, 1]. */
RSD_API void rsd_wilson(uint64_t k, uint64_t n, double *low, double *high);

/* log(p / (1 - p)) of k successes in n, as log((k + 1/2) / (n - k + 1/2)) (Haldane 1956; Anscombe 1956), which is finite for 0 and n,
 * too. NaN for n = 0 or k > n. */
RSD_API double rsd_log_odds(uint64_t k, uint64_t n);

/* Unbiased maj@k of one item of which there are n samples, n = sum of votes + silent <= 1000: the probability that the majority of k
 * samples, drawn from the n without replacement, is right. votes[a]: samples that gave answer a; `right`: which of the answers is
 * right, n_answers or more if none is; silent: samples without an answer, which do not vote. Between t answers of equally many
 * votes each is chosen with probability 1/t; if nobody votes the item is wrong.
 *
 *   maj@k = sum over subsets S of k samples of [right among the leaders of S] / (number of leaders of S) / binomial(n, k)
 *
 * The mean over all subsets is the U-statistic of the majority vote (Hoeffding 1948): its expectation is that of one vote among k
 * fresh samples, whatever n; pass@k (Chen et al. 2021, arXiv 2107.03374) is the same for "any is right". Voting is self-consistency
 * (Wang et al. 2022, arXiv 2203.11171). Subsets are counted, not drawn: the product over answers of polynomials in votes taken.
 * RSD_EINVAL (k = 0, k > n, n > 1000), RSD_ENOMEM. */
RSD_API int rsd_maj_at_k(rsd_ctx *ctx, const uint64_t *votes, size_t n_answers, size_t right, uint64_t silent, uint64_t k,
                         double *out);

/* Two models, a and b, on the same items. */
typedef struct rsd_paired {
    size_t size; /* set by the caller */
    uint64_t both, only_a, only_b, neither;
    /* Two-sided p of equally good models given only_a + only_b: binomial, exact whatever their number (McNemar 1947; the exact form is
     * the sign test). 1 where they never differ. */
    double p;
    double chi2, p_chi2;          /* McNemar's statistic with continuity correction (Edwards 1948), and its p */
    double difference, low, high; /* accuracy of a - accuracy of b; 95 % interval: method 10 of Newcombe 1998 (Stat. Med. 17) */
} rsd_paired;
/* Fills *out from the four counts. RSD_EINVAL: no item, or a size that is not set. */
RSD_API int rsd_mcnemar(uint64_t both, uint64_t only_a, uint64_t only_b, uint64_t neither, rsd_paired *out);

typedef struct rsd_fit {
    size_t size; /* set by the caller */
    uint64_t n;
    double slope, intercept;
    double slope_low, slope_high; /* 95 % interval by Student's t with n - 2 degrees of freedom; infinite for n = 2 */
    double r2;                    /* share of the variance of y explained: a description, not a test; 1 if all y are equal */
    double error;                 /* residual standard error */
} rsd_fit;
/* Least squares: y = intercept + slope * x. RSD_EINVAL: fewer than two points, numbers that are not finite, all x equal, a size that
 * is not set. */
RSD_API int rsd_fit_line(const double *x, const double *y, size_t n, rsd_fit *out);

#ifdef __cplusplus
}
#endif
#endif
