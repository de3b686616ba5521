/* libreasondistill in C++11: one owning class a handle, errors as exceptions. Header only; link with pkg-config reasondistill.
 *
 *     rsd::context ctx(2);
 *     rsd::tokenizer tok(ctx, "student");
 *     rsd::t5 model(ctx, "student");
 *     auto ids = tok.encode("Q: ...");
 *     ids.push_back(rsd_tokenizer_eos(tok.get()));
 *     std::cout << tok.decode(model.generate({ids})[0]);
 *
 * get() gives the C handle, so that every function of the C headers stays at hand; ctx.check(status) turns its result into an
 * exception. A handle must not outlive its context. */
#ifndef REASONDISTILL_HPP
#define REASONDISTILL_HPP

#include "reasondistill/reasondistill.h"

#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace rsd {

using ids = std::vector<std::int32_t>;

class error : public std::runtime_error {
  public:
    error(int status, const char *text) : std::runtime_error(text && *text ? text : rsd_strerror(status)), status_(status) {
    }
    int status() const noexcept {
        return status_;
    }

  private:
    int status_;
};

class context {
  public:
    /* threads 0: one per CPU. own_blas: see RSD_BLAS_OWN. */
    explicit context(int threads = 0, bool own_blas = true, std::uint64_t seed = 1) : p_(nullptr, rsd_ctx_close) {
        rsd_ctx_options o;
        rsd_ctx_options_init(&o, sizeof o);
        o.threads = threads;
        o.seed = seed;
        o.blas = own_blas ? RSD_BLAS_OWN : RSD_BLAS_LEAVE;
        rsd_ctx *p = nullptr;
        int status = rsd_ctx_open(&o, &p);
        if (status < 0)
            throw error(status, nullptr);
        p_.reset(p);
    }
    rsd_ctx *get() const noexcept {
        return p_.get();
    }
    /* Throws for a negative status, hands back any other. */
    int check(int status) const {
        if (status < 0)
            throw error(status, rsd_ctx_error(get()));
        return status;
    }

  private:
    std::unique_ptr<rsd_ctx, void (*)(rsd_ctx *)> p_;
};

/* What all handles share: the context that has their errors, and the pointer that closes itself. */
template <class T, void (*Close)(T *)> class handle {
  public:
    T *get() const noexcept {
        return p_.get();
    }

  protected:
    explicit handle(const context &ctx) : ctx_(&ctx), p_(nullptr, Close) {
    }
    int check(int status) const {
        return ctx_->check(status);
    }
    const context *ctx_;
    std::unique_ptr<T, void (*)(T *)> p_;
};

class tokenizer : public handle<rsd_tokenizer, rsd_tokenizer_close> {
  public:
    tokenizer(const context &ctx, const std::string &path) : handle(ctx) {
        rsd_tokenizer *p = nullptr;
        check(rsd_tokenizer_open(ctx.get(), path.c_str(), &p));
        p_.reset(p);
    }
    ids encode(const std::string &text) {
        const std::int32_t *v = nullptr;
        std::size_t n = 0;
        check(rsd_tokenizer_encode(get(), text.data(), text.size(), &v, &n));
        return ids(v, v + n);
    }
    std::string decode(const ids &v) {
        const char *text = nullptr;
        std::size_t n = 0;
        check(rsd_tokenizer_decode(get(), v.data(), v.size(), &text, &n));
        return std::string(text, n);
    }
};

class reply : public handle<rsd_reply, rsd_reply_close> {
  public:
    reply(const context &ctx, const std::string &json, std::size_t choice = 0, bool need_logprobs = true) : handle(ctx) {
        rsd_reply *p = nullptr;
        if (check(rsd_reply_parse(ctx.get(), json.data(), json.size(), choice, need_logprobs, &p)) == RSD_END)
            throw error(RSD_EINVAL, "the reply has no such choice");
        p_.reset(p);
    }
    std::string text() const {
        std::size_t n = 0;
        const char *s = rsd_reply_text(get(), &n);
        return std::string(s, n);
    }
};

class aligner : public handle<rsd_aligner, rsd_aligner_close> {
  public:
    /* The tokenizer must live as long. */
    aligner(const context &ctx, const tokenizer &tok, int method = RSD_ALIGN_SPAN) : handle(ctx) {
        rsd_aligner_options o;
        rsd_aligner_options_init(&o, sizeof o);
        o.method = method;
        rsd_aligner *p = nullptr;
        check(rsd_aligner_open(ctx.get(), tok.get(), &o, &p));
        p_.reset(p);
    }
    /* Borrowed until the next call on the aligner. */
    const rsd_alignment &align(const reply &r) {
        const rsd_alignment *a = nullptr;
        check(rsd_aligner_align(get(), r.get(), &a));
        return *a;
    }
};

/* Sequences laid end to end. */
struct packed {
    ids values;
    std::vector<std::uint32_t> offsets = std::vector<std::uint32_t>(1, 0);

    packed() = default;
    explicit packed(const std::vector<ids> &lists) {
        for (const ids &list : lists) {
            values.insert(values.end(), list.begin(), list.end());
            offsets.push_back(static_cast<std::uint32_t>(values.size()));
        }
    }
};

/* A batch with hard labels, end tokens included. */
class batch {
  public:
    batch(const std::vector<ids> &inputs, const std::vector<ids> &targets) : enc_(inputs), dec_(targets) {
        if (inputs.size() != targets.size())
            throw error(RSD_EINVAL, "a batch needs as many targets as inputs");
    }
    rsd_batch get() const {
        rsd_batch b = rsd_batch();
        b.size = sizeof b;
        b.n = enc_.offsets.size() - 1;
        b.enc_ids = enc_.values.data();
        b.enc_offsets = enc_.offsets.data();
        b.dec_ids = dec_.values.data();
        b.dec_offsets = dec_.offsets.data();
        return b;
    }

  private:
    packed enc_, dec_;
};

class t5 : public handle<rsd_t5, rsd_t5_close> {
  public:
    t5(const context &ctx, const std::string &directory) : handle(ctx) {
        rsd_t5 *p = nullptr;
        check(rsd_t5_open(ctx.get(), directory.c_str(), &p));
        p_.reset(p);
    }
    /* Random weights from a config.json. */
    t5(const context &ctx, const std::string &config, std::uint64_t seed) : handle(ctx) {
        rsd_t5 *p = nullptr;
        check(rsd_t5_create(ctx.get(), config.c_str(), seed, &p));
        p_.reset(p);
    }
    void forward(const rsd_batch &b, int mode = RSD_TRAIN) {
        check(rsd_t5_forward(get(), &b, mode));
    }
    void backward() {
        check(rsd_t5_backward(get()));
    }
    /* Outputs, end token left away, for inputs that end with theirs: options.n of each input, one after the other. */
    std::vector<ids> generate(const std::vector<ids> &inputs, const rsd_generate_options &options) {
        const packed in(inputs);
        const std::size_t n = options.n > 0 ? static_cast<std::size_t>(options.n) : 1;
        outputs out = {std::vector<ids>(inputs.size() * n), n};
        if (check(rsd_t5_generate(get(), in.values.data(), in.offsets.data(), inputs.size(), &options, on_token, &out)) > 0)
            throw std::bad_alloc(); /* from on_token: an exception must not cross C */
        return out.values;
    }
    /* One greedy output of each input. */
    std::vector<ids> generate(const std::vector<ids> &inputs, int max_tokens = 256) {
        rsd_generate_options o = generate_options();
        o.max_tokens = max_tokens;
        return generate(inputs, o);
    }
    static rsd_generate_options generate_options() {
        rsd_generate_options o;
        rsd_generate_options_init(&o, sizeof o);
        return o;
    }

  private:
    struct outputs {
        std::vector<ids> values;
        std::size_t n;
    };
    static int on_token(void *user, std::size_t input, std::size_t sample, std::int32_t id, float, int finish) noexcept {
        try {
            outputs &out = *static_cast<outputs *>(user);
            if (finish != RSD_FINISH_STOP)
                out.values[input * out.n + sample].push_back(id);
        } catch (...) {
            return 1;
        }
        return 0;
    }
};

class loss : public handle<rsd_loss, rsd_loss_close> {
  public:
    explicit loss(const context &ctx, int kind = RSD_LOSS_KL) : loss(ctx, options(kind)) {
    }
    loss(const context &ctx, const rsd_loss_options &o) : handle(ctx) {
        rsd_loss *p = nullptr;
        check(rsd_loss_open(ctx.get(), &o, &p));
        p_.reset(p);
    }
    /* A kind's defaults, to be changed. */
    static rsd_loss_options options(int kind = RSD_LOSS_KL) {
        rsd_loss_options o;
        rsd_loss_options_init(&o, sizeof o);
        o.kind = kind;
        return o;
    }
    /* Other options for the sequences of one format. */
    void set_format(int format, const rsd_loss_options &o) {
        check(rsd_loss_set_format(get(), format, &o));
    }
    /* Head and loss for the model's last forward; the mean over the batch. */
    double apply(const t5 &model, const rsd_batch &b) {
        rsd_loss_result r = rsd_loss_result();
        r.size = sizeof r;
        check(rsd_loss_begin(get(), &b, 1.0 / rsd_loss_weight(&b)));
        check(rsd_t5_head(model.get(), rsd_loss_tile, get()));
        check(rsd_loss_result_get(get(), &r));
        return r.loss;
    }
};

class optimizer : public handle<rsd_optimizer, rsd_optimizer_close> {
  public:
    /* The model must live as long. */
    optimizer(const context &ctx, const t5 &model) : handle(ctx) {
        rsd_optimizer *p = nullptr;
        check(rsd_optimizer_open(ctx.get(), model.get(), nullptr, &p));
        p_.reset(p);
    }
    /* The gradient's norm before clipping. */
    double step(double lr) {
        double norm = 0;
        check(rsd_optimizer_step(get(), lr, &norm));
        return norm;
    }
};

} // namespace rsd

#endif
