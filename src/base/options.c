/* Option structs grow only at their end; their first member tells how much of one the caller knows. */
#include "base/options.h"

#include <string.h>

int options_init(void *options, size_t size, const void *defaults, size_t full, struct err *e) {
    if (!options || size < sizeof(size_t))
        return err_set(e, ERR_INVALID, "options_init: no struct, or a size below sizeof(size_t)");
    memset(options, 0, size);
    memcpy(options, defaults, size < full ? size : full);
    memcpy(options, &size, sizeof size);
    return 0;
}

int options_read(void *out, size_t full, const void *defaults, const void *options, const char *what, struct err *e) {
    memcpy(out, defaults, full);
    if (!options)
        return 0;
    size_t size = 0;
    memcpy(&size, options, sizeof size);
    if (size < sizeof size)
        return err_set(e, ERR_INVALID, "%s: size is %zu: fill it with its _init function", what, size);
    if (size > full) {
        const unsigned char *tail = (const unsigned char *)options;
        for (size_t i = full; i < size; i++)
            if (tail[i])
                return err_set(e, ERR_VERSION, "%s: byte %zu is set, this library knows %zu bytes: it is older than its caller",
                               what, i, full);
        size = full;
    }
    memcpy(out, options, size);
    memcpy(out, &full, sizeof full);
    return 0;
}
